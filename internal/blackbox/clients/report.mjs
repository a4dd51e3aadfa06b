// What the drivers share: the cells, and how they are reported.
//
// A driver is started with its order as its only argument, and prints one JSON
// object a cell on standard output. Its exit code says that it came to its
// end, not that every cell did well: the runner decides that.

export const order = JSON.parse(process.argv[2]);

export const cases = ['list', 'call', 'error', 'cancel', 'progress', 'huge'];

// The most of an error's text that is reported.
const maxDetail = 600;

// report says how a cell ended: well, unless there is an error.
export function report(transport, version, name, milliseconds, error) {
	const detail = error === undefined ? '' : String(error?.message ?? error).replace(/\s+/g, ' ').slice(0, maxDetail);
	console.log(JSON.stringify({
		transport, version, case: name, client: order.client,
		ok: error === undefined, detail, seconds: milliseconds / 1000,
	}));
}

// check fails a cell when what it says isn't so.
export function check(so, what) {
	if (!so) throw new Error(what);
}

export function includes(text, part, what) {
	check(text.includes(part), `${what}: no ${JSON.stringify(part)} in ${JSON.stringify(text.slice(0, 300))}`);
}

// within fails unless the promise settles in time.
export async function within(ms, what, promise) {
	let timer;
	const late = new Promise((_, reject) => {
		timer = setTimeout(() => reject(new Error(`${what} took more than ${ms} ms`)), ms);
	});
	try {
		return await Promise.race([promise, late]);
	} finally {
		clearTimeout(timer);
	}
}

// until asks again and again until the answer is true.
export async function until(ms, what, ask) {
	const end = Date.now() + ms;
	while (!await ask()) {
		check(Date.now() < end, `${what}: not within ${ms} ms`);
		await new Promise((resolve) => setTimeout(resolve, 100));
	}
}

// textOf is a tool result's text. Every result has some, a failed one too.
export function textOf(result) {
	const text = result.content.filter((c) => c.type === 'text').map((c) => c.text).join('\n');
	check(text !== '' || result.content.some((c) => c.type === 'image'), 'a tool result without text');
	return text;
}

// literalCall reads a call as the answers write it for the model to repeat:
// read_process(process="7", vm="box", cursor="o1").
export function literalCall(text, tool) {
	const written = new RegExp(`\\b${tool}\\(([^)]*)\\)`).exec(text);
	check(written, `no literal ${tool}(…) in ${JSON.stringify(text.slice(-400))}`);
	const args = {};
	for (const [, name, value] of written[1].matchAll(/(\w+)=("(?:[^"\\]|\\.)*"|\d+)/g)) args[name] = JSON.parse(value);
	return args;
}

// Output that is far more than an answer, or a model, can take.
export const hugeCommand = `yes 0123456789012345678901234567890 | head -c ${order.hugeBytes}`;
export const hugeLine = '0123456789012345678901234567890';

// The most characters that every known client shows whole.
export const mostText = 40_000;

let marks = 0;

// longSleep is a command that no other cell runs, and how ps shows it.
export function longSleep() {
	const seconds = `300.${process.pid}${String(++marks).padStart(4, '0')}`;
	return { command: `sleep ${seconds}`, mark: seconds };
}
