// Requests that change something: they carry the token, which is asked for once and kept as long as the tab.
import { ApiError } from "./api.js";
import { askToken } from "./token.js";

const KEPT = "api-token";
const TIMEOUT_MS = Number(document.documentElement.dataset.requestTimeoutMs) || 10_000;
const REFUSED = [401, 403];

function kept() {
  try {
    return sessionStorage.getItem(KEPT);
  } catch {
    return null; // without storage it is asked for each time
  }
}

function keep(token) {
  try {
    sessionStorage.setItem(KEPT, token);
  } catch {
    // Only the memory of it is lost.
  }
}

/** The answer of a write; throws ApiError with the server's words, also where the user gives no token. */
export async function write(method, address, body) {
  for (let token = kept(); ; ) {
    try {
      const answer = await once(method, address, body, token);
      if (token !== null) keep(token);
      return answer;
    } catch (error) {
      if (!REFUSED.includes(error.status)) throw error;
      token = await askToken(error.message);
      if (token === null) throw error;
    }
  }
}

async function once(method, address, body, token) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(address, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch (error) {
    if (error.name === "TimeoutError") throw new ApiError(`No answer within ${Math.round(TIMEOUT_MS / 1000)} s.`, { code: "timeout" });
    throw new ApiError("The server cannot be reached.");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  const said = answer?.error ?? {};
  throw new ApiError(said.message ?? `The server answered ${response.status}.`, { code: said.code ?? "http", status: response.status });
}
