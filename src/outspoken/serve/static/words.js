// All texts of the page, in English and in Traditional Chinese, and the functions that show them.

const one = (n, single, several) => `${number(n)} ${n === 1 ? single : several}`;

const ENGLISH = {
  language: "English",
  skip: "Skip to the prompt",
  headline: "See the answers a model could give, not only the one it usually gives.",
  about:
    "Outspoken asks the model for several answers and the probability of each. Together they are a distribution, from which you draw: here, or in any program that speaks OpenAI’s protocol.",
  history: "History", shortcuts: "Keyboard shortcuts", close: "Close", cancel: "Cancel", stop: "Stop", stopped: "Stopped.",
  prompt: "Prompt",
  promptHint: "Ask a question with more than one good answer",
  model: "Model", method: "Method", k: "k, answers", tau: "τ, at most", noBound: "no limit",
  tauHint: "Asks for the tail: only answers with a probability below this. Empty: no limit.",
  temperature: "Temperature", own: "default", system: "System prompt", systemHint: "Optional: the role of the model",
  ask: "Ask", asking: "Waiting for the first answer …", soFar: (n) => `${one(n, "answer", "answers")} so far`,
  needPrompt: "Write a prompt first.",
  badNumber: (name) => `“${name}” has no valid number.`,
  methods: {},
  distribution: "The distribution",
  emptyLead: "Ask a question, and its answers appear here one by one, each with its share.",
  emptyTry: "Questions with many good answers show most. Try one:",
  examples: ["Name a US state.", "Tell me a joke about coffee.", "Write the first line of a novel.", "Suggest a name for a grey cat."],
  candidates: "Answers, with their probabilities",
  scale: (share) => `A full bar is ${percent(share, 0)}. The strip above shows each answer’s share of 1.`,
  stated: (p) => `stated ${percent(p)}`, unstated: "no probability stated", timesDrawn: (n) => (n === 1 ? "drawn once" : `drawn ${number(n)} times`),
  elsewhere: "from another distribution",
  aside: (n) => `${one(n, "answer", "answers")} set aside`,
  noReason: "no reason given", thoughts: "The model’s reasoning",
  missing: (n) => `${one(n, "answer is", "answers are")} missing.`, cutShort: (why) => `It ended early: ${why}`,
  refused: (n) => `${one(n, "reply was", "replies were")} refused.`,
  cutOff: (n) => `${one(n, "reply was", "replies were")} cut off.`,
  effective: "Effective size", effectiveUnit: (n) => `of ${number(n)}`, effectiveAbout: "Worth about this many equally likely answers.",
  entropy: "Entropy", entropyUnit: "nats", mass: "Stated mass", massAbout: "The sum of the stated probabilities, before they are normalised to 1.",
  noMass: "none", requests: "Requests", tokens: "Tokens", tokensUnit: (sent, got) => `${number(sent)} in, ${number(got)} out`,
  download: "Download as JSON",
  draw: "Draw", drawAbout: "The server draws one answer by its probability, and none twice until all are used up.",
  drawnWith: (p) => `Drawn with probability ${percent(p)}`,
  again: "All answers were drawn before, so the pool starts again.", recycled: "again",
  fromOther: "The server has asked for more since: this answer is from a newer distribution than the one shown.", showOther: "Show that distribution",
  unverbalized: (text) => `The model gave no list of answers, but this: ${text}`,
  log: (n) => `${one(n, "draw", "draws")} so far`,
  ready: (n, size, top) => `${one(n, "answer", "answers")}, effective size ${size}. Most probable: ${top}`,
  compareTitle: "Direct and verbalized, side by side",
  compareAbout: "The same prompt several times: on one side the model’s direct answers, on the other draws from the distribution. Repeats are counted.",
  compare: "Compare", each: "Answers each", direct: "Direct", verbalized: "Verbalized",
  distinctOf: (n) => `distinct of ${number(n)}`, diversity: "semantic diversity",
  compared: (a, b, n) => `Direct: ${a} distinct of ${n}. Verbalized: ${b} distinct of ${n}.`,
  codeTitle: "Use it from your code",
  codeAbout: "Any client of OpenAI’s API works: change the base URL and the model’s name. The code uses the prompt and the settings above.",
  codeKey: "The key is read from the environment variable OUTSPOKEN_KEY.", codeNoKey: "This server needs no key.",
  copy: "Copy", copied: "Copied", selected: "Selected: copy it with your keyboard",
  reports: "Reports", kinds: {},
  historyAbout: "Stored in this browser only, at most the last 50.", historyEmpty: "Nothing yet: your questions are stored here.", clear: "Clear the history",
  historyFull: "The browser’s storage is full, so the oldest entries were removed.",
  historyNone: "This browser stores no history for this page.",
  key: "Client key", keyTitle: "This server needs a key",
  keyAbout: "Enter your client key. It is stored until this tab is closed, and sent to this server only.", keySave: "Use this key",
  keyWrong: "The server does not answer without a key.",
  serverError: (status, message) => `The server reports an error${status === "stream" ? "" : ` (${status})`}: ${message}`, unreachable: "The server cannot be reached. Is it still running?",
  broken: "The answer ended before it was complete. Ask again.", noModels: "The server lists no models.",
  singleKeys: "Single-key shortcuts",
  keys: { ask: "Ask", draw: "Draw", compare: "Compare", prompt: "To the prompt", code: "To the code", history: "History", esc: "Stop; or leave the field", help: "This list" },
  foot: "This page talks to its server alone. Probabilities are stated by the model, not computed from its logits.",
};

const CHINESE = {
  language: "中文",
  skip: "跳到提示詞",
  headline: "看見模型能給的各種回答，而不只是最常給的那一個。",
  about: "Outspoken 請模型一次說出多個回答，以及各自的機率。這些回答合成一個分布，可以從中抽取：在這一頁，或在任何支援 OpenAI 協定的程式裡。",
  history: "紀錄", shortcuts: "鍵盤快速鍵", close: "關閉", cancel: "取消", stop: "停止", stopped: "已停止。",
  prompt: "提示詞",
  promptHint: "問一個不只一種好答案的問題",
  model: "模型", method: "方法", k: "k（回答數）", tau: "τ（機率上限）", noBound: "不設限",
  tauHint: "只要尾端的回答：機率須低於此值。留空則不設限。",
  temperature: "溫度", own: "預設", system: "系統提示詞", systemHint: "可不填：模型要扮演的角色",
  ask: "提問", asking: "等候第一個回答⋯⋯", soFar: (n) => `已有 ${number(n)} 個回答`,
  needPrompt: "請先寫下提示詞。",
  badNumber: (name) => `「${name}」的數值不能用。`,
  methods: {
    direct: "直接送出提示詞；呼叫 k 次，每次一個回答",
    "direct-cot": "先思考再回答；呼叫 k 次，每次一個回答",
    sequence: "一次呼叫列出 k 個回答，不附機率",
    "multi-turn": "同一段對話中每輪一個回答，共 k 輪",
    "vs-standard": "一次呼叫列出 k 個回答及其機率",
    "vs-cot": "先思考，再列出 k 個回答及其機率",
    "vs-multi": "同 vs-standard，之後在同一段對話中每輪再要 k 個",
  },
  distribution: "分布",
  emptyLead: "提出一個問題，回答便會逐一出現在這裡，各帶著自己的一份機率。",
  emptyTry: "好答案不只一個的問題最看得出差別。試試看：",
  examples: ["說出臺灣的一個縣市。", "講一個關於咖啡的笑話。", "寫一部小說的第一句話。", "替一隻灰貓取個名字。"],
  candidates: "各個回答及其機率",
  scale: (share) => `長條全滿為 ${percent(share, 0)}。上方橫條是整體：各個回答在 1 之中所占的份額。`,
  stated: (p) => `自述機率 ${percent(p)}`, unstated: "未自述機率", timesDrawn: (n) => `抽中 ${number(n)} 次`,
  elsewhere: "來自另一個分布",
  aside: (n) => `另有 ${number(n)} 個回答未採用`,
  noReason: "未說明原因", thoughts: "模型說出的思考過程",
  missing: (n) => `還缺 ${number(n)} 個回答。`, cutShort: (why) => `提前結束：${why}`,
  refused: (n) => `有 ${number(n)} 則回覆被拒絕。`, cutOff: (n) => `有 ${number(n)} 則回覆被截斷。`,
  effective: "有效大小", effectiveUnit: (n) => `/ ${number(n)}`, effectiveAbout: "相當於多少個機率相等的回答。",
  entropy: "熵", entropyUnit: "奈特", mass: "自述機率總和", massAbout: "模型自述的機率在正規化為 1 之前的總和。",
  noMass: "無", requests: "請求數", tokens: "詞元", tokensUnit: (sent, got) => `輸入 ${number(sent)}，輸出 ${number(got)}`,
  download: "下載 JSON",
  draw: "抽取", drawAbout: "伺服器依機率抽出一個回答；全部抽完之前，不會重複。",
  drawnWith: (p) => `抽中機率 ${percent(p)}`,
  again: "所有回答都已發完，因此重新開始。", recycled: "重新開始",
  fromOther: "伺服器已要來更多回答：這個回答出自較新的分布，不是畫面上的這一個。", showOther: "顯示那個分布",
  unverbalized: (text) => `模型沒有列出多個回答，而是說：${text}`,
  log: (n) => `已抽取 ${number(n)} 次`,
  ready: (n, size, top) => `共 ${number(n)} 個回答，有效大小 ${size}。機率最高：${top}`,
  compareTitle: "直接提問與分布抽取並列",
  compareAbout: "同一個提示詞問許多次：一邊直接問模型，一邊從分布抽取。重複的回答合併計數。",
  compare: "比較", each: "各取幾個", direct: "直接提問", verbalized: "分布抽取",
  distinctOf: (n) => `個相異，共 ${number(n)} 個`, diversity: "語意多樣性",
  compared: (a, b, n) => `直接提問：${n} 個中有 ${a} 個相異。分布抽取：${n} 個中有 ${b} 個相異。`,
  codeTitle: "在程式中使用",
  codeAbout: "任何支援 OpenAI API 的用戶端都能用：只要改基底網址與模型名稱。以下用的就是上方的提示詞與設定。",
  codeKey: "金鑰讀自環境變數 OUTSPOKEN_KEY。", codeNoKey: "本伺服器不需要金鑰。",
  copy: "複製", copied: "已複製", selected: "已選取，請用鍵盤複製",
  reports: "報告", kinds: { experiment: "實驗", report: "報告", typicality: "典型性", sharpen: "銳化", gamma: "γ", levels: "層次" },
  historyAbout: "只存在這個瀏覽器中，最多保留最近 50 筆。", historyEmpty: "還沒有紀錄；提問後會保存在這裡。", clear: "清除紀錄",
  historyFull: "瀏覽器空間不足，已移除最舊的紀錄。",
  historyNone: "這個瀏覽器不替本頁保存紀錄。",
  key: "用戶端金鑰", keyTitle: "本伺服器需要金鑰",
  keyAbout: "請輸入您的用戶端金鑰。金鑰只保留到此分頁關閉為止，也只會送往本伺服器。", keySave: "使用這把金鑰",
  keyWrong: "沒有金鑰，伺服器便不會回應。",
  serverError: (status, message) => `伺服器回覆${status === "stream" ? "" : `（${status}）`}：${message}`, unreachable: "連不上伺服器。它還在執行嗎？",
  broken: "回覆在完成之前中斷了，請再問一次。", noModels: "伺服器沒有列出任何模型。",
  singleKeys: "啟用單鍵快速鍵",
  keys: { ask: "提問", draw: "抽取", compare: "比較", prompt: "移到提示詞", code: "移到程式碼", history: "紀錄", esc: "停止；或離開欄位", help: "顯示本表" },
  foot: "一切都只在本頁與其伺服器之間進行。機率是模型自己說的，並非由 logits 讀出。",
};

const LANGUAGES = { en: ENGLISH, "zh-Hant": CHINESE };
let language = "en";

/** The text with this name in the page's language, with its values filled in. */
export function t(name, ...values) {
  const text = LANGUAGES[language][name];
  return typeof text === "function" ? text(...values) : text;
}

export function number(value, digits = 0) {
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function percent(share, digits = 1) {
  return share.toLocaleString(language, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function moment(milliseconds) {
  return new Date(milliseconds).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });
}

/** The language of the page: the chosen one, or the first of the browser's languages that the page has. */
export function preferred(chosen) {
  if (chosen in LANGUAGES) return chosen;
  const first = navigator.languages.find((tag) => /^(en|zh)\b/i.test(tag)) ?? "en";
  return /^zh/i.test(first) ? "zh-Hant" : "en";
}

export function other() {
  return language === "en" ? "zh-Hant" : "en";
}

/** Show the whole page in a language. Messages that were shown before keep theirs. */
export function setLanguage(wanted) {
  language = wanted;
  document.documentElement.lang = wanted;
  for (const place of document.querySelectorAll("[data-t]")) place.textContent = t(place.dataset.t);
  for (const place of document.querySelectorAll("[data-t-label]")) place.setAttribute("aria-label", t(place.dataset.tLabel));
  for (const place of document.querySelectorAll("[data-t-title]")) place.title = t(place.dataset.tTitle);
  for (const place of document.querySelectorAll("[data-t-placeholder]")) place.placeholder = t(place.dataset.tPlaceholder);
  const switcher = document.getElementById("language");
  switcher.textContent = LANGUAGES[other()].language;
  switcher.lang = other();
}

let announced = 0;

/** Announce a text to screen readers, at most every two seconds unless it matters. */
export function announce(text, matters = false) {
  if (!matters && performance.now() - announced < 2000) return;
  announced = performance.now();
  document.getElementById("live").textContent = text;
}

/** Show an error beside its cause; null removes it. What the reader stopped is no error. */
export function complain(place, error) {
  const stopped = error?.name === "AbortError";
  place.textContent = !error ? "" : stopped ? t("stopped") : describe(error);
  place.classList.toggle("calm", stopped);
  if (error) announce(place.textContent, true);
}

function describe(error) {
  if (error.status) return t("serverError", error.status, error.message);
  return error instanceof TypeError ? t("unreachable") : error.message;
}
