// Requests to the REST API: each has a time limit, short outages are tried again, errors carry the server's words.
import { askTokenOnce, authorization, token } from "./token.js";

const TIMEOUT_MS = Number(document.documentElement.dataset.requestTimeoutMs) || 10_000;
const DELAYS_MS = [400, 1200];

export class ApiError extends Error {
  constructor(message, { code = "network", status = 0, retryAfter = null } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter; // s, where the server said so
  }

  get passing() {
    return this.code === "network" || this.status === 502 || this.status === 503 || this.status === 504;
  }

  /** Whether the same may well be answered later. */
  get later() {
    return this.passing || this.code === "timeout" || this.status === 429;
  }
}

export const inAddress = (symbol) => encodeURIComponent(symbol.replace("/", "-"));
export const chartPage = (exchange, symbol) => `/charts/${encodeURIComponent(exchange)}/${inAddress(symbol)}`;

export const getOverview = (options) => getJson("/api/overview", options);
export const getSymbols = (options) => getJson("/api/symbols", options);
export const getInstruments = (options) => getJson("/api/instruments", options);
export const getQuotes = (options) => getJson("/api/quotes", options);

export const getScreen = (query, options) => getJson(`/api/screener?${query}`, options);
export const getStatus = (options) => getJson("/api/status", options);
export const getBackfills = ({ limit }) => getJson(`/api/backfills?limit=${limit}`);

/** A small read, tried once, which has the user asked for another token where ours is not taken. */
export const tryToken = () => getJson("/api/exchanges", { delays: [] });

/** Bars and indicator values, oldest first; `range` is any of {start, end, limit} in ms, `names` the indicators. */
export function getChart({ exchange, symbol }, { timeframe, range = {}, names = [], signal }) {
  const query = new URLSearchParams({ exchange, timeframe, limit: "1000", indicators: names.join(",") });
  for (const [key, value] of Object.entries(range)) query.set(key, String(value));
  return getJson(`/api/charts/${inAddress(symbol)}?${query}`, { signal });
}

async function getJson(address, { signal, delays = DELAYS_MS } = {}) {
  for (let attempt = 0; ; attempt += 1) {
    const sent = token();
    try {
      return await once(address, signal);
    } catch (error) {
      if (error.status === 401 && !signal?.aborted && (token() !== sent || (await askTokenOnce(error.message)) !== null)) continue;
      const again = error instanceof ApiError && error.passing && attempt < delays.length;
      if (!again || signal?.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, delays[attempt]));
      signal?.throwIfAborted();
    }
  }
}

const once = (address, signal) => request(address, { signal });

/** One request, answered by JSON; throws ApiError with the server's words. `given` are headers beside the usual. */
export async function request(address, { method = "GET", body, given = {}, signal } = {}) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  const either = signal ? AbortSignal.any([signal, timeout]) : timeout;
  const headers = { Accept: "application/json", ...authorization(), ...given };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    const response = await fetch(address, { method, headers, body: body && JSON.stringify(body), signal: either });
    const answer = await response.json().catch((error) => {
      if (either.aborted) throw error;
      return null;
    });
    if (response.ok && (answer !== null || method !== "GET")) return answer;
    const said = answer?.error ?? {};
    throw new ApiError(said.message ?? `The server answered ${response.status}.`, {
      code: said.code ?? "http",
      status: response.status,
      retryAfter: Number(response.headers.get("Retry-After")) || null,
    });
  } catch (error) {
    if (error instanceof ApiError || signal?.aborted) throw error;
    if (timeout.aborted) {
      throw new ApiError(`No answer within ${Math.round(TIMEOUT_MS / 1000)} s.`, { code: "timeout" });
    }
    throw new ApiError("The server cannot be reached.");
  }
}
