/**
 * Live events: server-sent events read through `fetch`, so that the token never rides in a URL.
 * Reconnects by itself from where it broke off. Knows nothing of what the events mean.
 * @module
 */
import { url } from "./api.js";

/** @typedef {{search: string, seq: number, at: string, kind: string, event: any}} LiveEvent */
/** @typedef {"connecting" | "live" | "lost" | "closed"} LinkState */

const SILENCE = 45_000;
const WAITS = [500, 1000, 2000, 4000, 8000, 15_000];

export class EventFeed {
  /**
   * @param {string} path such as /searches/ID/events/stream
   * @param {(events: LiveEvent[]) => void} tell called with what came, at most ten times a second
   * @param {(state: LinkState, since: number) => void} report
   * @param {string | null} [place] id of the last event that is known already
   */
  constructor(path, tell, report, place = null) {
    this._path = path;
    this._tell = tell;
    this._report = report;
    this._place = place;
    this._tries = 0;
    /** @type {LiveEvent[]} */
    this._waiting = [];
    /** @type {AbortController | null} */
    this._abort = null;
    this._closed = false;
    this._since = Date.now();
    /** @type {any} */
    this._watchdog = null;
    /** @type {any} */
    this._flushing = null;
    /** @type {any} */
    this._retry = null;
    /** @type {LinkState | null} */
    this._state = null;
    this._online = () => this.reconnect();
    window.addEventListener("online", this._online);
    this._set("connecting");
    this._open();
  }

  /** Tries again now instead of later. */
  reconnect() {
    if (this._closed || this._state === "live") return;
    clearTimeout(this._retry);
    this._abort?.abort();
    this._open();
  }

  close() {
    this._closed = true;
    window.removeEventListener("online", this._online);
    clearTimeout(this._retry);
    clearTimeout(this._watchdog);
    clearTimeout(this._flushing);
    this._abort?.abort();
  }

  /** @param {LinkState} state */
  _set(state) {
    if (state !== this._state) {
      this._since = Date.now();
      this._state = state;
    }
    this._report(state, this._since);
  }

  async _open() {
    const abort = new AbortController();
    this._abort = abort;
    /** @type {Record<string, string>} */
    const headers = { Accept: "text/event-stream" };
    if (this._place !== null) headers["Last-Event-ID"] = this._place;
    try {
      const response = await fetch(url(this._path), {
        headers, signal: abort.signal, credentials: "same-origin", cache: "no-store",
      });
      if (response.status === 404 || response.status === 401 || response.status === 400) {
        this._closed = true;
        this._set("closed");
        return;
      }
      if (!response.ok || !response.body) throw new Error(`status ${response.status}`);
      this._tries = 0;
      this._set("live");
      await this._read(response.body.getReader());
    } catch {
      if (this._closed || this._abort !== abort) return;
    }
    if (this._closed || this._abort !== abort) return;
    clearTimeout(this._watchdog);
    this._set("lost");
    const wait = WAITS[Math.min(this._tries++, WAITS.length - 1)];
    this._retry = setTimeout(() => this._open(), wait * (0.75 + Math.random() / 2));
  }

  /** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
  async _read(reader) {
    const decoder = new TextDecoder();
    let text = "";
    for (;;) {
      this._watch();
      const { value, done } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const blocks = text.split(/\r?\n\r?\n/);
      text = blocks.pop() ?? "";
      for (const block of blocks) this._block(block);
    }
  }

  /** A stream that is silent beyond its heartbeat is dead, whatever the socket says. */
  _watch() {
    clearTimeout(this._watchdog);
    this._watchdog = setTimeout(() => {
      this._state = "lost";
      this.reconnect();
    }, SILENCE);
  }

  /** @param {string} block */
  _block(block) {
    let data = "";
    /** @type {string | null} */
    let id = null;
    for (const line of block.split(/\r?\n/)) {
      if (line.startsWith("data:")) data += line.slice(5).trimStart();
      else if (line.startsWith("id:")) id = line.slice(3).trim();
    }
    if (!data) return;
    this._waiting.push(JSON.parse(data));
    if (id !== null) this._place = id;
    if (this._flushing === null) {
      this._flushing = setTimeout(() => {
        this._flushing = null;
        const told = this._waiting;
        this._waiting = [];
        this._tell(told);
      }, 100);
    }
  }
}
