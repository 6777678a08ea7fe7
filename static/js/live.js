// A WebSocket that comes back: backoff with jitter, the address asked anew each time (so it can carry `since=`).
import { tryToken } from "./api.js";
import { askTokenOnce, readsNeedToken, token } from "./token.js";

const FIRST_MS = 500;
const LONGEST_MS = 15_000;
const CONNECT_MS = 8_000;
const PING_MS = 15_000;
const BEAT_MS = 2_000;
const SLEPT_MS = 4 * BEAT_MS; // no beat for so long: the machine slept, and no event need have told of it
const ANSWER_MS = 6_000; // a ping so long without a word of the server: the connection is dead, though nobody closed it
export const WAKING = [[window, "online"], [window, "pageshow"], [window, "focus"], [document, "visibilitychange"], [document, "resume"]];

/** ms to wait before an attempt, counted from 1: twice as long each time, and no two pages at the same moment. */
export function pause(attempt, first, longest) {
  return Math.min(longest, first * 2 ** (attempt - 1)) * (0.6 + 0.4 * Math.random());
}

export class Live {
  #socket = null;
  #timer = 0;
  #pulse = 0;
  #overdue = 0; // runs out when a ping goes unanswered
  #beaten = 0; // by the clock on the wall, which goes on while the machine sleeps
  #pinged = 0;
  #attempt = 0;
  #closed = false;
  #judging = false; // whether our token is still taken

  /** address() gives path and query; onMessage(parsed); onState({phase, retryAt}). */
  constructor({ address, onMessage, onState }) {
    this.address = address;
    this.onMessage = onMessage;
    this.onState = onState;
    for (const [target, event] of WAKING) target.addEventListener(event, this.#now);
    this.#open();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#calm();
    for (const [target, event] of WAKING) target.removeEventListener(event, this.#now);
    this.#socket?.close();
  }

  /** Back online, back in sight or awake: what waits need not wait any longer, and what seems open has to prove it. */
  #now = () => {
    if (this.#closed || this.#judging || document.hidden) return;
    if (this.#socket === null) this.#open();
    else this.#ping(this.#socket);
  };

  #open() {
    clearTimeout(this.#timer);
    if (readsNeedToken() && token() === null) {
      this.#ask();
      return;
    }
    const url = new URL(this.address(), location.href);
    const sent = token();
    if (readsNeedToken()) url.searchParams.set("token", sent); // a socket's request carries no header of ours
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.#socket = socket;
    if (this.#attempt === 0) this.onState({ phase: "connecting" });
    const overdue = setTimeout(() => socket.close(), CONNECT_MS);
    let opened = false;
    socket.onopen = () => {
      opened = true;
      clearTimeout(overdue);
      clearInterval(this.#pulse);
      this.#beaten = this.#pinged = Date.now();
      this.#pulse = setInterval(() => this.#beat(socket), BEAT_MS);
    };
    socket.onmessage = ({ data }) => {
      if (this.#closed || this.#socket !== socket) return;
      clearTimeout(this.#overdue);
      this.#overdue = 0;
      const message = JSON.parse(data);
      if (this.#attempt >= 0 && message.type !== "error") {
        this.#attempt = -1; // only what was asked for proves the server well: one that refuses says why, and closes
        this.onState({ phase: "connected" });
      }
      this.onMessage(message);
    };
    socket.onclose = () => {
      clearTimeout(overdue);
      if (this.#socket === socket) this.#lost(opened ? null : sent);
    };
  }

  async #ask() {
    const given = await askTokenOnce("Prices are shown only to those who have the platform's token.");
    if (this.#closed || this.#socket !== null) return;
    if (given === null) this.onState({ phase: "off" });
    else this.#open();
  }

  /** A handshake refused for its token looks like an outage, and would for ever: a read tells the two apart. */
  async #judge(sent) {
    this.#judging = true;
    this.onState({ phase: "reconnecting", retryAt: performance.now() });
    const refused = await tryToken().then(() => false, ({ status }) => status === 401);
    this.#judging = false;
    if (this.#closed) return;
    if (refused) this.onState({ phase: "off" }); // the user gave no other
    else if (token() !== sent) this.#open();
    else this.#retry();
  }

  #beat(socket) {
    const now = Date.now();
    if (now - this.#beaten > SLEPT_MS || now - this.#pinged >= PING_MS) this.#ping(socket);
    this.#beaten = now;
  }

  #ping(socket) {
    if (socket.readyState !== WebSocket.OPEN || this.#overdue) return;
    this.#pinged = Date.now();
    socket.send('{"type":"ping"}');
    this.#overdue = setTimeout(() => {
      if (this.#socket === socket) this.#lost(); // closing a dead connection can take minutes: it is left behind
      socket.close();
    }, ANSWER_MS);
  }

  #calm() {
    clearInterval(this.#pulse);
    clearTimeout(this.#overdue);
    this.#overdue = 0;
  }

  /** `sent` is the token of a handshake that failed. */
  #lost(sent = null) {
    this.#socket = null;
    this.#calm();
    if (this.#closed) return;
    if (sent !== null && readsNeedToken()) this.#judge(sent);
    else this.#retry();
  }

  #retry() {
    this.#attempt = Math.max(this.#attempt, 0) + 1;
    const delay = pause(this.#attempt, FIRST_MS, LONGEST_MS);
    this.onState({ phase: "reconnecting", retryAt: performance.now() + delay });
    this.#timer = setTimeout(() => this.#open(), delay);
  }
}
