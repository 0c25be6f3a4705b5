/**
 * The client of the REST API: the page's only way to the service.
 * @module
 */

/**
 * Path prefix of the page; this file is served at `PREFIX/assets/VERSION/js/api.js`.
 * @type {string}
 */
export const ROOT = new URL("../../..", import.meta.url).pathname;

const API = `${ROOT}api/v1`;

/** An answer other than success, or none at all (`status` 0). */
export class Problem extends Error {
  /**
   * @param {number} status
   * @param {{title?: string, detail?: string, error_id?: string, position?: number,
   *          errors?: {where: string, reason: string}[]}} body
   */
  constructor(status, body) {
    super(body.detail ?? body.title ?? `status ${status}`);
    this.name = "Problem";
    this.status = status;
    this.title = body.title ?? "";
    this.id = body.error_id ?? "";
    this.position = body.position ?? null;
    this.errors = body.errors ?? [];
  }
}

/** @type {Set<(problem: Problem) => void>} */
const unauthorised = new Set();

/**
 * Calls when a request was refused for want of a token.
 * @param {(problem: Problem) => void} call
 */
export function onUnauthorised(call) {
  unauthorised.add(call);
}

/**
 * Query text of the parameters; lists repeat their key, null and "" are left out.
 * @param {Record<string, any>} [params]
 * @returns {string}
 */
export function query(params = {}) {
  const made = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") made.append(key, String(one));
    }
  }
  const text = made.toString();
  return text ? `?${text}` : "";
}

/**
 * @param {string} path below /api/v1
 * @param {Record<string, any>} [params]
 * @returns {string} URL for links and downloads
 */
export function url(path, params) {
  return API + path + query(params);
}

/**
 * @param {string} method
 * @param {string} address
 * @param {any} [body]
 * @param {{signal?: AbortSignal, headers?: Record<string, string>}} [options]
 * @returns {Promise<Response>}
 */
export async function request(method, address, body, options = {}) {
  const headers = new Headers(options.headers);
  if (body !== undefined) headers.set("Content-Type", "application/json");
  let response;
  try {
    response = await fetch(address, {
      method, headers, signal: options.signal, credentials: "same-origin",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (err) {
    if (options.signal?.aborted) throw err;
    throw new Problem(0, { title: "unreachable", detail: String(err) });
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({ detail: response.statusText }));
  const problem = new Problem(response.status, told);
  if (response.status === 401) for (const call of unauthorised) call(problem);
  throw problem;
}

/**
 * @param {string} path below /api/v1
 * @param {Record<string, any>} [params]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function get(path, params, signal) {
  return (await request("GET", url(path, params), undefined, { signal })).json();
}

/**
 * @param {Record<string, any>} [params]
 * @returns {Promise<any[]>} all searches that the filters let through, page by page
 */
export async function allSearches(params) {
  const found = [];
  for (let cursor; cursor !== null;) {
    const page = await get("/searches", { ...params, cursor });
    found.push(...page.searches);
    cursor = page.next ?? null;
  }
  return found;
}

/**
 * @param {string} path
 * @param {Record<string, any>} [params]
 * @param {AbortSignal} [signal]
 * @returns {Promise<string>}
 */
export async function getText(path, params, signal) {
  return (await request("GET", url(path, params), undefined, { signal })).text();
}

/**
 * @param {string} path
 * @param {any} [body]
 * @param {{signal?: AbortSignal, headers?: Record<string, string>}} [options]
 * @returns {Promise<any>}
 */
export async function post(path, body, options) {
  const response = await request("POST", url(path), body, options);
  return response.status === 204 ? null : response.json();
}

/**
 * @param {string} path
 * @param {any} body
 * @returns {Promise<any>}
 */
export async function patch(path, body) {
  return (await request("PATCH", url(path), body)).json();
}

/**
 * @param {string} path
 * @returns {Promise<void>}
 */
export async function put(path) {
  await request("PUT", url(path));
}

/**
 * @param {string} path
 * @returns {Promise<void>}
 */
export async function remove(path) {
  await request("DELETE", url(path));
}

/**
 * Saves an answer as a file, under the name that the service gives it.
 * @param {Response} response
 * @param {string} fallback
 */
export async function saveResponse(response, fallback) {
  const told = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
  saveBlob(await response.blob(), told ? told[1] : fallback);
}

/**
 * Offers the data to the reader as a download.
 * @param {Blob} blob
 * @param {string} name
 */
export function saveBlob(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
