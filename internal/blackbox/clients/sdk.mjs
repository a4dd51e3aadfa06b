// Drives @modelcontextprotocol/sdk, the TypeScript client of the revisions with
// initialize.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { AjvJsonSchemaValidator } from '@modelcontextprotocol/sdk/validation/ajv';
import { drive } from './drive.mjs';
import { stdioServer } from './observer.mjs';
import { order } from './report.mjs';
import { record } from './session.mjs';
import { watchStreams } from './streams.mjs';

const open = {
	stdio: () => new StdioClientTransport(stdioServer()),
	sse: () => new SSEClientTransport(new URL('/sse', order.url)),
	http: (fetch) => new StreamableHTTPClientTransport(new URL(order.url), { fetch }),
};

await drive(async (transport, version) => {
	const traffic = [];
	const streams = watchStreams();
	const client = new Client({ name: 'blackbox', version: '1' });
	// The client always asks for the newest revision that it knows, and takes
	// whichever of the others it is offered.
	const change = (m) => m.method === 'initialize' ? { ...m, params: { ...m.params, protocolVersion: version } } : m;
	const wire = record(open[transport](streams.fetch), traffic, change);
	await client.connect(wire);
	const validator = new AjvJsonSchemaValidator();
	return {
		version: traffic.find((m) => m.got?.result?.protocolVersion).got.result.protocolVersion,
		traffic,
		streams: streams.open,
		tools: async () => (await client.listTools()).tools,
		resources: async () => (await client.listResources()).resources,
		templates: async () => (await client.listResourceTemplates()).resourceTemplates,
		prompts: async () => (await client.listPrompts()).prompts,
		compile: (schema) => validator.getValidator(schema),
		call: (name, args, options) => client.callTool({ name, arguments: args }, undefined, options),
		close: async () => {
			if (transport === 'http') await wire.terminateSession();
			await client.close();
		},
	};
});
