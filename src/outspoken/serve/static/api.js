// Calls of the server: the client's key, errors, streams of events.

const KEY = "outspoken-key";
let current = null;
try {
  current = sessionStorage.getItem(KEY);
} catch {
  // The browser stores nothing: the key lasts as long as the page.
}
let askForKey = async () => null;
let asked = null;

/** An error with the status of the server, or one of the page itself. */
export class Failure extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Set the function that asks for a key: it gets the server's message, and returns a key or null. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

export function storeKey(key) {
  current = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // As above.
  }
}

export function hasKey() {
  return current !== null;
}

/** Ask for the key, once for all calls that wait for it. */
export function requestKey(message = "") {
  asked ??= askForKey(message).finally(() => { asked = null; });
  return asked;
}

/** The response to a call; if the server needs a key, the reader is asked for it and the call is repeated. */
export async function call(path, body = undefined, signal = undefined) {
  for (;;) {
    const key = current;
    const response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers: {
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(key ? { Authorization: `Bearer ${key}` } : {}),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
    if (response.ok) return response;
    const error = await failure(response);
    // Another call may have brought a new key in the meantime.
    if (response.status === 401 && (current !== key || (await requestKey(error.message)))) continue;
    throw error;
  }
}

export async function json(...request) {
  return (await call(...request)).json();
}

async function failure(response) {
  const text = await response.text();
  try {
    return new Failure(JSON.parse(text).error.message, response.status);
  } catch {
    return new Failure(text.slice(0, 300) || response.statusText, response.status);
  }
}

/** The server-sent events of a response, as {event, data}, however the bytes are split. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value;
      // A carriage return at the end may be half of a line break.
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { event: event || "message", data: data.join("\n") };
          event = "";
          data = [];
          continue;
        }
        const [, name, text] = /^([^:]*):? ?(.*)$/su.exec(line);
        if (name === "event") event = text;
        if (name === "data") data.push(text);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
