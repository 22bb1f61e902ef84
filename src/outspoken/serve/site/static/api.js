// The server, asked: the client's key, errors in words, streams of events.

const KEY = "outspoken-key";
let current = null;
try {
  current = sessionStorage.getItem(KEY);
} catch {
  // A browser that keeps nothing: the key lives as long as the page.
}
let askForKey = async () => null;
let asking = null;

/** What the server said, with its status; or what the page itself says of an answer. */
export class Refusal extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Who is called where the server wants a key: it gets what the server said, and returns a key or null. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

export function keep(key) {
  current = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // As above.
  }
}

export function holdsKey() {
  return current !== null;
}

/** Ask once for all calls that wait for the key. */
export function wanted(said = "") {
  asking ??= askForKey(said).finally(() => { asking = null; });
  return asking;
}

/** The answer to a call; where a key is wanted, the reader is asked for it and the call made again. */
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
    const error = await refusal(response);
    // Another call may have brought a new key in the meantime.
    if (response.status === 401 && (current !== key || (await wanted(error.message)))) continue;
    throw error;
  }
}

export async function json(...request) {
  return (await call(...request)).json();
}

async function refusal(response) {
  const text = await response.text();
  try {
    return new Refusal(JSON.parse(text).error.message, response.status);
  } catch {
    return new Refusal(text.slice(0, 300) || response.statusText, response.status);
  }
}

/** The server-sent events of an answer, as {event, data}, however the bytes were cut. */
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
      // A carriage return at the end may be half of a line's end.
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
