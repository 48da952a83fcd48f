// Connect-JSON over fetch: unary calls and server streams of konomi.v1, and the page's own endpoints.

export class CallError extends Error {
  constructor(code, message, status = 0) {
    super(message);
    this.code = code;
    this.status = status;
  }

  // Nothing answered, or what answered cannot reach the rater: the same call may be sent again later.
  get isAway() {
    return ["unreachable", "unavailable", "deadline_exceeded", "unauthenticated"].includes(this.code);
  }
}

const listeners = new Set();

export function onReach(listener) {
  listeners.add(listener);
}

function tell(state) {
  for (const listener of listeners) listener(state);
}

// What the page says is said in its own language, which need not be the browser's.
const spoken = () => ({ "accept-language": document.documentElement.lang });

export async function call(method, body = {}, { timeout = 30000, signal = null, keepalive = false } = {}) {
  const limit = AbortSignal.timeout(timeout);
  try {
    const response = await fetch(address(method), {
      method: "POST",
      headers: { "content-type": "application/json", ...spoken() },
      body: JSON.stringify(body),
      keepalive,
      signal: signal ? AbortSignal.any([limit, signal]) : limit,
    });
    if (!response.ok) throw await refusal(response);
    const told = await response.json();  // a server that dies between its header and its body has not answered either
    tell("here");
    return told;
  } catch (error) {
    if (error instanceof CallError) throw error;
    if (signal?.aborted) throw new CallError("canceled", "given up");
    tell("away");
    throw new CallError("unreachable", String(error));
  }
}

// Sends the bytes of a file; `moved` is told how many have left. Only XMLHttpRequest says so.
export function send(path, file, headers, { moved = () => {}, signal = null } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const away = () => { tell("away"); reject(new CallError("unreachable", "")); };
    request.open("POST", address(path));
    const sent = { "content-type": "application/octet-stream", ...spoken(), ...headers };
    for (const [name, value] of Object.entries(sent)) request.setRequestHeader(name, value);
    request.responseType = "text";
    request.upload.addEventListener("progress", (event) => moved(event.loaded));
    request.addEventListener("load", () => {
      if (request.status === 200) resolve();
      else refusal(new Response(request.responseText, { status: request.status, statusText: request.statusText })).then(reject, away);
    });
    request.addEventListener("error", away);
    request.addEventListener("abort", () => reject(new CallError("canceled", "")));
    const giveUp = () => request.abort();
    signal?.addEventListener("abort", giveUp);
    request.addEventListener("loadend", () => signal?.removeEventListener("abort", giveUp));
    request.send(file);
  });
}

export async function* stream(method, body = {}) {
  const data = new TextEncoder().encode(JSON.stringify(body));
  const frame = new Uint8Array(5 + data.length);
  new DataView(frame.buffer).setUint32(1, data.length);
  frame.set(data, 5);
  const response = await fetch(address(method), {
    method: "POST",
    headers: { "content-type": "application/connect+json", "connect-protocol-version": "1", ...spoken() },
    body: frame,
  });
  if (!response.ok) throw await refusal(response);
  for await (const [flags, message] of frames(response.body.getReader())) {
    if (flags & 2) {
      if (message.error) throw new CallError(message.error.code, message.error.message ?? "");
      return;
    }
    yield message;
  }
}

async function* frames(reader) {
  let waiting = new Uint8Array(0);
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const joined = new Uint8Array(waiting.length + value.length);
    joined.set(waiting);
    joined.set(value, waiting.length);
    waiting = joined;
    while (waiting.length >= 5) {
      const length = new DataView(waiting.buffer, waiting.byteOffset).getUint32(1);
      if (waiting.length < 5 + length) break;
      yield [waiting[0], JSON.parse(new TextDecoder().decode(waiting.subarray(5, 5 + length)))];
      waiting = waiting.slice(5 + length);
    }
  }
}

async function refusal(response) {
  let told = {};
  try {
    told = await response.json();
  } catch { /* not ours: the status alone speaks */ }
  const code = told.code ?? (response.status === 401 ? "unauthenticated" : response.status >= 502 ? "unavailable" : "unknown");
  if (code === "unavailable") tell("away");
  if (code === "unauthenticated") tell("locked");
  return new CallError(code, told.message ?? response.statusText, response.status);
}

function address(method) {
  if (method.startsWith("/")) return method;
  return method.includes("/") ? `/konomi.v1.${method}` : `/konomi.page/${method}`;
}
