// The cells of the two clients that keep a session, over whichever transport.
//
// A session is { version, tools(), resources(), templates(), prompts(),
// compile(schema), call(name, args, options), traffic, streams, close() }.
// traffic has every message as { sent } or { got }, in the order of the wire.

import { check, hugeCommand, hugeLine, includes, literalCall, longSleep, mostText, order, textOf, until, within } from './report.mjs';

const vm = order.vm;

// record keeps what crosses a transport. The first message that is sent may be
// changed on its way.
export function record(transport, traffic, change = (m) => m) {
	const send = transport.send.bind(transport);
	transport.send = (message, options) => {
		message = change(message);
		traffic.push({ sent: message });
		return send(message, options);
	};
	transport.onmessage = (message) => traffic.push({ got: message });
	return transport;
}

// asked is the request that ran a command, once it has been sent.
function asked(s, command) {
	return s.traffic.find((m) => m.sent?.method === 'tools/call' && m.sent.params.arguments.command === command).sent;
}

// answerTo is where a request's answer is in the traffic, or -1.
function answerTo(s, request) {
	return s.traffic.findIndex((m) => m.got && m.got.id === request.id && m.got.method === undefined);
}

export const run = {
	async list(s) {
		const names = (await s.tools()).map((t) => t.name);
		check(JSON.stringify([...names].sort()) === JSON.stringify(order.tools), `tools are ${names}, want ${order.tools}`);
		const again = await s.tools();
		check(JSON.stringify(again.map((t) => t.name)) === JSON.stringify(names), 'the second list has another order');
		for (const tool of again) {
			s.compile(tool.inputSchema);
			if (tool.outputSchema) s.compile(tool.outputSchema);
		}
		const uris = (await s.resources()).map((r) => r.uri);
		check(uris.includes('slicer://vms'), `resources are ${uris}`);
		const templates = (await s.templates()).map((t) => t.uriTemplate);
		check(templates.includes('slicer://vm/{vm}'), `resource templates are ${templates}`);
		check((await s.prompts()).length >= 3, 'fewer than 3 prompts');
	},

	async call(s) {
		const name = `box-${process.pid}-${s.number}`;
		const created = await s.call('create_vm', { name });
		check(!created.isError, `create_vm: ${textOf(created)}`);
		includes(textOf(created), name, 'create_vm');
		const ran = await s.call('exec', { vm: name, command: 'echo "hello from $(id -un)" | tee greeting; echo oops >&2' });
		check(!ran.isError && textOf(ran).startsWith('exit 0'), `exec: ${textOf(ran)}`);
		includes(textOf(ran), 'hello from ubuntu', 'exec');
		includes(textOf(ran), 'oops', 'exec');
		const read = await s.call('read_file', { vm: name, file_path: '/home/ubuntu/greeting' });
		check(!read.isError, `read_file: ${textOf(read)}`);
		includes(textOf(read), 'hello from ubuntu', 'read_file');
		const listed = await s.call('list_vms', {});
		includes(textOf(listed), name, 'list_vms');
		includes(JSON.stringify(listed.structuredContent), name, "list_vms's record");
		const deleted = await s.call('delete_vm', { vm: name });
		check(!deleted.isError, `delete_vm: ${textOf(deleted)}`);
		const left = textOf(await s.call('list_vms', {}));
		check(!left.includes(name), `after delete_vm: ${left}`);
	},

	async error(s) {
		// A name that isn't a tool's is the client's mistake, not the model's.
		const refused = await s.call('no_such_tool', {}).then((r) => { throw new Error(`no_such_tool: ${textOf(r)}`); }, (e) => e);
		check(refused.code === -32602, `no_such_tool: code ${refused.code}, ${refused.message}`);
		includes(refused.message, 'no_such_tool', 'the refusal');

		const wrong = await s.call('exec', { vm, comand: 'true' });
		check(wrong.isError, `an argument that isn't: ${textOf(wrong)}`);
		includes(textOf(wrong), 'comand', 'an argument that is none');
		includes(textOf(wrong), 'command', 'an argument that is none');

		const three = await s.call('exec', { vm, command: 'echo why >&2; exit 3' });
		check(!three.isError && textOf(three).startsWith('exit 3'), `exit 3: ${textOf(three)}`);
		includes(textOf(three), 'why', 'exit 3');

		const nowhere = await s.call('exec', { vm: 'no-such-vm', command: 'true' });
		check(nowhere.isError, `a VM that isn't: ${textOf(nowhere)}`);
		includes(textOf(nowhere), 'no-such-vm', "a VM that isn't there");
		includes(textOf(nowhere), vm, "a VM that isn't there");
	},

	async cancel(s, observer) {
		const { command, mark } = longSleep();
		const abort = new AbortController();
		const outcome = s.call('exec', { vm, command, yield_seconds: 50 }, { signal: abort.signal }).then(
			(r) => { throw new Error(`a cancelled call was answered: ${textOf(r)}`); },
			(e) => e,
		);
		outcome.catch(() => {});
		await until(10_000, 'the command runs', () => observer.sees(mark));
		const request = asked(s, command);
		// Looked at when the session has ended: nothing may ever come.
		s.afterwards.push(['cancel', () => {
			const late = s.traffic[answerTo(s, request)];
			check(!late, `the cancelled call was answered: ${JSON.stringify(late)}`);
		}]);
		abort.abort('the user pressed stop');
		await within(1000, 'the cancelled call', outcome);
		await until(5000, 'the command is gone', async () => !await observer.sees(mark));
		await until(5000, 'list_processes shows the end', async () => {
			const list = textOf(await s.call('list_processes', { vm }));
			return !list.split('\n').some((line) => line.includes(mark) && line.includes('running'));
		});
		await until(5000, 'the answer stream of the cancelled call is closed', () => !s.streams?.has(request.id));
	},

	async progress(s) {
		const told = [];
		const result = await s.call(
			'exec',
			{ vm, command: 'for i in 1 2 3 4 5 6 7 8; do echo step $i; sleep 0.25; done' },
			{ onprogress: (p) => told.push(p) },
		);
		includes(textOf(result), 'step 8', 'exec');
		check(told.length > 0, 'onprogress was never called');
		check(told.every((p, i) => i === 0 || p.progress > told[i - 1].progress), `progress doesn't grow: ${told.map((p) => p.progress)}`);
		check(told.some((p) => p.message?.includes('step')), `no progress tells a line: ${JSON.stringify(told)}`);
		// Progress that comes with the end must neither be lost nor overtake.
		// That is seen on the wire: these clients forget a call's onprogress
		// when the answer comes in the same read.
		const last = Array.from({ length: 20 }, (_, i) => `sleep 0.2; echo last ${i}`);
		await Promise.all(last.map((command) => s.call('exec', { vm, command }, { onprogress() {} })));
		s.afterwards.push(['progress', () => {
			for (const command of last) {
				const { params: { _meta: { progressToken } } } = asked(s, command);
				// On a busy machine a sign of life may have taken its place, as
				// there are five a second at most.
				check(
					s.traffic.some(({ got }) => got?.params?.progressToken === progressToken),
					`the progress of ${command} was lost`,
				);
			}
			const running = new Map();
			for (const { sent, got } of s.traffic) {
				const token = sent?.params?._meta?.progressToken;
				if (token !== undefined) running.set(sent.id, token);
				if (got && got.method === undefined) running.delete(got.id);
				if (got?.method === 'notifications/progress') {
					check([...running.values()].includes(got.params.progressToken), `progress after its answer: ${JSON.stringify(got)}`);
				}
			}
		}]);
	},

	async huge(s) {
		const answer = await s.call('exec', { vm, command: hugeCommand, yield_seconds: 50 });
		const text = textOf(answer);
		check(!answer.isError, `huge output: ${text.slice(0, 300)}`);
		check(text.length <= mostText, `the answer has ${text.length} characters`);
		check(JSON.stringify(answer).length <= 2 * mostText, `the result has ${JSON.stringify(answer).length} characters`);
		check(text.split(hugeLine).length > 100, `hardly any output in ${JSON.stringify(text.slice(0, 300))}`);
		const next = literalCall(text, 'read_process');
		const page = await s.call('read_process', next);
		check(!page.isError, `read_process: ${textOf(page).slice(0, 300)}`);
		check(textOf(page).length <= mostText, `the page has ${textOf(page).length} characters`);
		includes(textOf(page), hugeLine, 'read_process');
	},
};
