// Questions to the gateway that served this page.

let key = "";

/** The model said no, or nobody could be asked; the message is the reason. */
export class Refused extends Error {
  constructor(code, reason) {
    super(reason);
    this.code = code;
  }
}

/** The gateway wants an API key. */
export class NeedsKey extends Error {}

/** From now on, requests carry this key; it is kept nowhere else. */
export function setKey(value) {
  key = value;
}

/** The explanation of one photo, by one version of a model. */
export function ask(blob, model, version, signal) {
  if (!model) throw new Refused(503, "no model is known yet");
  const path = `/explanations/${encodeURIComponent(model)}/${encodeURIComponent(version)}`;
  const headers = { "Content-Type": "application/octet-stream" };
  return send(path, { method: "POST", body: blob, headers, signal });
}

/** Which models there are. */
export async function listModels() {
  return (await send("/models", {})).models;
}

async function send(path, options) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
  let document_ = null;
  try {
    document_ = await response.json();
  } catch {
    throw new Refused(response.status, `the gateway answered with status ${response.status}`);
  }
  if (response.ok) return document_;
  const reason = document_?.error?.reason ?? `status ${response.status}`;
  throw response.status === 401 ? new NeedsKey(`${reason}.`) : new Refused(response.status, reason);
}
