// watchStreams wraps fetch to know which requests' answers are still open:
// open has the ids of requests whose POST has not been answered to its end.
export function watchStreams() {
	const open = new Set();
	return {
		open,
		async fetch(url, init) {
			const id = init?.method === 'POST' && typeof init.body === 'string' ? JSON.parse(init.body).id : undefined;
			if (id === undefined) return fetch(url, init);
			open.add(id);
			try {
				const response = await fetch(url, init);
				if (response.body === null) {
					open.delete(id);
					return response;
				}
				const [theirs, ours] = response.body.tee();
				drain(ours).finally(() => open.delete(id));
				return new Response(theirs, response);
			} catch (error) {
				open.delete(id);
				throw error;
			}
		},
	};
}

// drain reads a stream to its end, however it ends.
async function drain(stream) {
	try {
		for await (const _ of stream);
	} catch {
		// A stream that broke off has ended too.
	}
}
