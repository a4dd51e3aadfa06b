// Drives @modelcontextprotocol/client, the TypeScript client of every revision.

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { AjvJsonSchemaValidator } from '@modelcontextprotocol/client/validators/ajv';
import { drive } from './drive.mjs';
import { stdioServer } from './observer.mjs';
import { order } from './report.mjs';
import { record } from './session.mjs';
import { watchStreams } from './streams.mjs';

// The first revision that has no initialize.
const modern = '2026-07-28';

const open = {
	stdio: () => new StdioClientTransport(stdioServer()),
	sse: () => new SSEClientTransport(new URL('/sse', order.url)),
	http: (fetch) => new StreamableHTTPClientTransport(new URL(order.url), { fetch }),
};

await drive(async (transport, version) => {
	const traffic = [];
	const streams = watchStreams();
	const options = version < modern ? { supportedProtocolVersions: [version] } : { versionNegotiation: { mode: { pin: version } } };
	const client = new Client({ name: 'blackbox', version: '1' }, options);
	const wire = record(open[transport](streams.fetch), traffic);
	await client.connect(wire);
	const validator = new AjvJsonSchemaValidator();
	return {
		version: client.getNegotiatedProtocolVersion(),
		traffic,
		streams: streams.open,
		tools: async () => (await client.listTools(undefined, { cacheMode: 'refresh' })).tools,
		resources: async () => (await client.listResources(undefined, { cacheMode: 'refresh' })).resources,
		templates: async () => (await client.listResourceTemplates(undefined, { cacheMode: 'refresh' })).resourceTemplates,
		prompts: async () => (await client.listPrompts(undefined, { cacheMode: 'refresh' })).prompts,
		compile: (schema) => validator.getValidator(schema),
		call: (name, args, options) => client.callTool({ name, arguments: args }, options),
		close: async () => {
			if (transport === 'http' && version < modern) await wire.terminateSession();
			await client.close();
		},
	};
});
