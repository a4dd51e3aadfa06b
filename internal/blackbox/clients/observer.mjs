// A second pair of eyes: a session of its own, over stdio, that looks into the
// VM while a client under test does something. It makes that VM, and deletes it.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { check, order, textOf } from './report.mjs';

export async function observe() {
	const client = new Client({ name: 'observer', version: '1' });
	await client.connect(new StdioClientTransport(stdioServer()));
	const created = await client.callTool({ name: 'create_vm', arguments: { name: order.vm } });
	check(!created.isError, `create_vm: ${textOf(created)}`);
	return {
		// sees says whether a process of the VM has this in its arguments.
		async sees(mark) {
			const result = await client.callTool({ name: 'exec', arguments: { vm: order.vm, command: 'ps -eo args' } });
			const text = textOf(result);
			check(text.startsWith('exit 0'), `ps: ${text.slice(0, 300)}`);
			// The shell that was given the command has it in its arguments too.
			return text.split('\n').some((line) => line.includes(`sleep ${mark}`));
		},
		async close() {
			const deleted = await client.callTool({ name: 'delete_vm', arguments: { vm: order.vm } });
			check(!deleted.isError, `delete_vm: ${textOf(deleted)}`);
			await client.close();
		},
	};
}

// stdioServer is how the server is started over stdio.
export function stdioServer() {
	return { command: order.binary, args: ['serve', ...order.flags], env: process.env, stderr: 'ignore', cwd: order.folder };
}
