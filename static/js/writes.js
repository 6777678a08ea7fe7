// Requests that change something: they carry the token, which is asked for once and kept as long as the tab.
import { ApiError } from "./api.js";
import { askToken, authorization } from "./token.js";

const TIMEOUT_MS = Number(document.documentElement.dataset.requestTimeoutMs) || 10_000;
const REFUSED = [401, 403];

/** The answer of a write; throws ApiError with the server's words, also where the user gives no token. */
export async function write(method, address, body) {
  for (let given = {}; ; ) {
    try {
      return await once(method, address, { body, given });
    } catch (error) {
      if (!REFUSED.includes(error.status)) throw error;
      const token = await askToken(error.message);
      if (token === null) throw error;
      given = { Authorization: `Bearer ${token}` }; // where nothing can be kept it serves this request
    }
  }
}

async function once(method, address, { body, given }) {
  const headers = { Accept: "application/json", ...authorization(), ...given };
  if (body !== undefined) headers["Content-Type"] = "application/json";
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
