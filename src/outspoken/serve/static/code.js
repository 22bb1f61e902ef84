// Code for the request on the page: curl, Python and JavaScript.

// Characters that could make code look different from what it is: signs of direction, unusual line breaks.
const HIDDEN = /[\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu;

const quoted = (value) =>
  JSON.stringify(value).replace(HIDDEN, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** A value as JSON, which JavaScript and, for numbers and texts, Python read alike; lists are split into lines. */
function literal(value, indent = "", step = "  ") {
  if (typeof value !== "object") return quoted(value);
  const many = Array.isArray(value);
  const [open, close] = many ? "[]" : "{}";
  const parts = Object.entries(value).map(([name, part]) => (many ? "" : `${quoted(name)}: `) + literal(part, indent + step, step));
  const long = many || Object.values(value).some(Array.isArray);
  return long ? `${open}\n${parts.map((part) => indent + step + part).join(",\n")}\n${indent}${close}` : open + parts.join(", ") + close;
}

/** The request of a draw, with the method's suffix, if it has one, instead of its name. */
function suffixed({ model, outspoken: { method, ...rest }, ...request }, suffix) {
  return { model: model + suffix, ...request, outspoken: suffix ? rest : { method, ...rest } };
}

const WRITERS = {
  curl({ outspoken, ...request }, url, locked) {
    const body = literal({ ...request, outspoken }, "  ").replaceAll("'", `'\\''`);
    return [
      `curl '${url}/chat/completions' \\`,
      `  -H "Content-Type: application/json" \\`,
      ...(locked ? [`  -H "Authorization: Bearer $OUTSPOKEN_KEY" \\`] : []),
      `  -d '${body}'`,
    ];
  },

  python({ messages, outspoken, ...request }, url, locked) {
    return [
      ...(locked ? ["import os", ""] : []),
      "from openai import OpenAI",
      "",
      `client = OpenAI(base_url=${literal(url)}, api_key=${locked ? 'os.environ["OUTSPOKEN_KEY"]' : '"none"'})`,
      "completion = client.chat.completions.create(",
      ...Object.entries(request).map(([name, value]) => `    ${name}=${literal(value)},`),
      `    messages=${literal(messages, "    ", "    ")},`,
      `    extra_body=${literal({ outspoken }, "    ")},`,
      ")",
      "print(completion.choices[0].message.content)",
    ];
  },

  javascript({ messages, outspoken, ...request }, url, locked) {
    return [
      'import OpenAI from "openai";',
      "",
      `const client = new OpenAI({ baseURL: ${literal(url)}, apiKey: ${locked ? "process.env.OUTSPOKEN_KEY" : '"none"'} });`,
      "const completion = await client.chat.completions.create({",
      ...Object.entries(request).map(([name, value]) => `  ${name}: ${literal(value)},`),
      `  messages: ${literal(messages, "  ")},`,
      `  outspoken: ${literal(outspoken, "  ")},`,
      "});",
      "console.log(completion.choices[0].message.content);",
    ];
  },
};

/** The code for one draw with this body. `suffix` is the method's, `locked`: the server needs a key. */
export function code(kind, body, suffix, locked) {
  const url = new URL("v1", document.baseURI).href;
  return WRITERS[kind](suffixed(body, suffix), url, locked).join("\n");
}
