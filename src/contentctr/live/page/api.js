// The service's HTTP API: JSON, pictures, and the stream of events.
//
// The stream is read by fetch, not by EventSource: that one cannot send the key, does not show
// pings, and hides why a connection was refused.

const KEY_NAME = "contentctr-key";
const ANSWER_MS = 20_000;
const SILENT_MS = 40_000; // the service pings every 15 s

/** An answer that is not a success; `retryAfter` in seconds, or null. */
export class ApiError extends Error {
  constructor(status, detail, retryAfter) {
    super(detail);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** No answer: the service is not there, too slow, or has broken off. */
export class LostError extends Error {}

function lost(error) {
  throw new LostError(error.message, { cause: error });
}

export function hasKey() {
  return sessionStorage.getItem(KEY_NAME) !== null;
}

export function setKey(key) {
  sessionStorage.setItem(KEY_NAME, key);
}

async function get(path, options = {}) {
  const { headers = {}, signal = AbortSignal.timeout(ANSWER_MS), cache = "no-store" } = options;
  const key = sessionStorage.getItem(KEY_NAME);
  const response = await fetch(path, {
    headers: key === null ? headers : { ...headers, "X-API-Key": key },
    signal,
    cache,
  }).catch(lost);
  if (response.ok) return response;
  const { detail } = await response.json().catch(() => ({}));
  const after = Number.parseFloat(response.headers.get("Retry-After"));
  throw new ApiError(
    response.status,
    typeof detail === "string" ? detail : `the service answered ${response.status}`,
    Number.isFinite(after) ? after : null,
  );
}

export async function getJson(path) {
  const text = await (await get(path)).text().catch(lost);
  return JSON.parse(text);
}

/** An address for an <img>: the path itself, or a blob where a key must be sent. */
export async function pictureUrl(path) {
  if (!path.startsWith("/v1/rooms/")) throw new Error(`not a thumbnail's path: ${path}`);
  if (!hasKey()) return path;
  return URL.createObjectURL(await (await get(path, { cache: "default" })).blob());
}

/** All rooms, page by page, and the service's clock. */
export async function getRooms() {
  const rooms = [];
  for (;;) {
    const page = await getJson(`/v1/rooms?limit=500&offset=${rooms.length}`);
    rooms.push(...page.rooms);
    if (page.rooms.length === 0 || rooms.length >= page.total) return { now: page.now, rooms };
  }
}

/**
 * Events after the one with id `cursor`, as {kind, id, data}; first {kind: "open"} once the
 * service listens to us. Returns when the stream ends, throws when it breaks or falls silent.
 */
export async function* events(cursor, signal) {
  const silence = new AbortController();
  const hurried = (promise) => {
    const timer = setTimeout(() => silence.abort(), SILENT_MS);
    return promise.finally(() => clearTimeout(timer));
  };
  const headers = cursor === null ? {} : { "Last-Event-ID": cursor };
  const response = await hurried(
    get("/v1/events", { headers, signal: AbortSignal.any([signal, silence.signal]) }),
  );
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let opened = false;
  for (;;) {
    const { done, value } = await hurried(reader.read()).catch(lost);
    if (done) return;
    if (!opened) {
      opened = true;
      yield { kind: "open", id: null, data: null };
    }
    const blocks = (text + value).replaceAll("\r\n", "\n").split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event !== null) yield event;
    }
  }
}

/** One event of the stream; null for comments and `retry`. */
function parse(block) {
  let kind = "message";
  let id = null;
  const data = [];
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "event") kind = value;
    else if (name === "id") id = value;
    else if (name === "data") data.push(value);
  }
  return data.length === 0 ? null : { kind, id, data: JSON.parse(data.join("\n")) };
}
