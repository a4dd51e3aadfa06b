// Runs the cells of a client that keeps a session: one session a transport and
// version, the cases in turn.

import { cases, check, order, report, within } from './report.mjs';
import { observe } from './observer.mjs';
import { run } from './session.mjs';

// drive takes a function that opens a session.
export async function drive(open) {
	const observer = await observe();
	let number = 0;
	for (const transport of order.transports) {
		for (const version of order.versions) {
			number++;
			await session(open, observer, transport, version, number);
		}
	}
	await observer.close();
}

async function session(open, observer, transport, version, number) {
	const results = new Map();
	let s;
	try {
		s = await within(20_000, 'connecting', open(transport, version));
		check(s.version === version, `the session speaks ${s.version}`);
	} catch (error) {
		await s?.close().catch(() => {});
		for (const name of cases) report(transport, version, name, 0, error);
		return;
	}
	s.number = number;
	s.afterwards = [];
	for (const name of cases) {
		const started = Date.now();
		try {
			await within(60_000, name, run[name](s, observer));
			results.set(name, { took: Date.now() - started });
		} catch (error) {
			results.set(name, { took: Date.now() - started, error });
		}
	}
	let closing;
	try {
		await within(10_000, 'closing', s.close());
	} catch (error) {
		closing = error;
	}
	for (const [name, look] of s.afterwards) {
		try {
			look();
		} catch (error) {
			results.get(name).error ??= error;
		}
	}
	for (const name of cases) {
		const { took, error } = results.get(name);
		report(transport, version, name, took, error ?? closing);
	}
}
