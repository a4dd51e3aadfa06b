// Drives the Inspector's command line, a process a call.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { cases, check, hugeCommand, hugeLine, includes, literalCall, longSleep, mostText, order, report, textOf, until, within } from './report.mjs';
import { observe } from './observer.mjs';

// The first revision that has no initialize.
const modern = '2026-07-28';

const manifest = createRequire(import.meta.url).resolve('@modelcontextprotocol/inspector/package.json');
const inspector = join(dirname(manifest), 'clients/launcher/build/index.js');

// The most of a process's output that is kept.
const mostOutput = 4 << 20;

// The exit code that stands for a tool's error.
const toolError = 5;

// start runs the Inspector.
function start(transport, version, args) {
	const era = version < modern ? 'legacy' : 'modern';
	// What follows a target's command is its own until a flag of the
	// Inspector; -- ends its flags, so they come first.
	const target = {
		stdio: () => ['--', order.binary, 'serve', ...order.flags],
		sse: () => ['--transport', 'sse', '--server-url', new URL('/sse', order.url).href],
		http: () => ['--transport', 'http', '--server-url', order.url],
	}[transport]();
	const child = spawn(
		process.execPath,
		[inspector, '--cli', '--format', 'json', '--protocol-era', era, ...args, ...target],
		// It keeps files of its own in the home folder.
		{ stdio: ['ignore', 'pipe', 'pipe'], cwd: order.folder, env: { ...process.env, HOME: order.folder } },
	);
	const said = { out: '', err: '' };
	child.stdout.setEncoding('utf8').on('data', (s) => { if (said.out.length < mostOutput) said.out += s; });
	child.stderr.setEncoding('utf8').on('data', (s) => { if (said.err.length < mostOutput) said.err += s; });
	const ended = once(child, 'close').then(([code]) => ({ code, ...said }));
	return { child, ended };
}

async function ask(transport, version, ...args) {
	const { child, ended } = start(transport, version, args);
	try {
		return await within(60_000, 'the Inspector', ended);
	} finally {
		child.kill();
	}
}

// answer is what the Inspector prints when all is well.
async function answer(transport, version, ...args) {
	const { code, out, err } = await ask(transport, version, ...args);
	check(code === 0, `${args.join(' ')}: exit ${code}, ${err.slice(-400)}`);
	return JSON.parse(out);
}

const tool = (name, args) => ['--method', 'tools/call', '--tool-name', name, '--tool-args-json', JSON.stringify(args)];

// resultOf finds the result in what the Inspector prints.
const resultOf = (printed) => printed.result ?? printed;

let number = 0;

const run = {
	async list(t, v) {
		const names = resultOf(await answer(t, v, '--strict', '--method', 'tools/list')).tools.map((x) => x.name).sort();
		check(JSON.stringify(names) === JSON.stringify(order.tools), `tools are ${names}, want ${order.tools}`);
		const uris = resultOf(await answer(t, v, '--method', 'resources/list')).resources.map((x) => x.uri);
		check(uris.includes('slicer://vms'), `resources are ${uris}`);
		const { prompts } = resultOf(await answer(t, v, '--method', 'prompts/list'));
		check(prompts.length >= 3, `there are ${prompts.length} prompts`);
	},

	async call(t, v) {
		const vm = `box-${process.pid}-${++number}`;
		const text = async (name, args) => textOf(resultOf(await answer(t, v, ...tool(name, args))));
		includes(await text('create_vm', { name: vm }), vm, 'create_vm');
		includes(await text('exec', { vm, command: 'echo "hello from $(id -un)" | tee greeting' }), 'hello from ubuntu', 'exec');
		includes(await text('read_file', { vm, file_path: '/home/ubuntu/greeting' }), 'hello from ubuntu', 'read_file');
		includes(await text('delete_vm', { vm }), vm, 'delete_vm');
	},

	async error(t, v) {
		const unknown = await ask(t, v, ...tool('no_such_tool', {}));
		check(unknown.code !== 0, `no_such_tool: exit ${unknown.code}`);
		includes(unknown.out + unknown.err, 'no_such_tool', 'an unknown tool');
		const three = textOf(resultOf(await answer(t, v, ...tool('exec', { vm: order.vm, command: 'exit 3' }))));
		check(three.startsWith('exit 3'), `exit 3: ${three}`);
		const nowhere = await ask(t, v, ...tool('exec', { vm: 'no-such-vm', command: 'true' }));
		check(nowhere.code === toolError, `a VM that isn't: exit ${nowhere.code}, ${nowhere.err}`);
		includes(nowhere.out + nowhere.err, 'no-such-vm', "a VM that isn't there");
	},

	// The Inspector has one way to take a call back: being interrupted.
	async cancel(t, v, observer) {
		const { command, mark } = longSleep();
		const { child, ended } = start(t, v, tool('exec', { vm: order.vm, command, yield_seconds: 50 }));
		await until(15_000, 'the command runs', () => observer.sees(mark));
		child.kill('SIGINT');
		await within(2000, 'the interrupted Inspector', ended);
		await until(3000, 'the command is gone', async () => !await observer.sees(mark));
	},

	async progress(t, v) {
		const { code, out, err } = await ask(
			t, v, '--tool-metadata', 'progressToken=p1',
			...tool('exec', { vm: order.vm, command: 'for i in 1 2 3 4; do echo step $i; sleep 0.5; done' }),
		);
		check(code === 0, `exec: exit ${code}, ${err}`);
		check(/notifications\/progress|"progress":/.test(out + err), 'the Inspector shows no progress');
	},

	async huge(t, v) {
		const text = textOf(resultOf(await answer(t, v, ...tool('exec', { vm: order.vm, command: hugeCommand, yield_seconds: 50 }))));
		check(text.length <= mostText, `the answer has ${text.length} characters`);
		check(text.split(hugeLine).length > 100, `hardly any output in ${text.slice(0, 300)}`);
		const page = textOf(resultOf(await answer(t, v, ...tool('read_process', literalCall(text, 'read_process')))));
		includes(page, hugeLine, 'read_process');
	},
};

// spoken is which revision the Inspector speaks when it is asked for one. It
// knows eras only, so that it is asked once for each.
const eras = new Map();
async function spoken(transport, version) {
	const key = `${transport} ${version < modern}`;
	if (!eras.has(key)) {
		eras.set(key, resultOf(await answer(transport, version, '--method', 'initialize')).protocolVersion);
	}
	return eras.get(key);
}

const observer = await observe();
for (const transport of order.transports) {
	for (const version of order.versions) {
		let refusal;
		try {
			const other = await spoken(transport, version);
			check(other === version, `the Inspector speaks ${other}`);
		} catch (error) {
			refusal = error;
		}
		for (const name of cases) {
			const started = Date.now();
			let error = refusal;
			if (!refusal) await run[name](transport, version, observer).catch((e) => { error = e; });
			report(transport, version, name, Date.now() - started, error);
		}
	}
}
await observer.close();
