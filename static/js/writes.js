// Requests that change something: they carry the token, which is asked for once and kept as long as the tab.
import { request } from "./api.js";
import { askToken } from "./token.js";

const REFUSED = [401, 403];

/** The answer of a write; throws ApiError with the server's words, also where the user gives no token. */
export async function write(method, address, body) {
  for (let given = {}; ; ) {
    try {
      return await request(address, { method, body, given });
    } catch (error) {
      if (!REFUSED.includes(error.status)) throw error;
      const token = await askToken(error.message);
      if (token === null) throw error;
      given = { Authorization: `Bearer ${token}` }; // where nothing can be kept it serves this request
    }
  }
}
