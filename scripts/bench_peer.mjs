// A server on `ws` that logs devices in as the gateway does, and does the same work for it: lobby and deadline, challenge, closed shapes,
// SHA-256, Ed25519, token HMAC, grant, locality, registry, hello and two log lines; then it answers calls.
// Its arguments: a file with the gateway key, the devices' grants and the methods to name; and a file for its log lines.
import crypto from "node:crypto";
import fs from "node:fs";
import { WebSocketServer } from "ws";
const { key, grants, methods, ids, modes } = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const log = fs.openSync(process.argv[3], "a");
const gatewayKey = Buffer.from(key, "hex");
const prefix = Buffer.from("302a300506032b6570032100", "hex");
const say = (event, fields) => fs.writeSync(log, JSON.stringify({ ...fields, event, level: "info", timestamp: new Date().toISOString() }) + "\n");
const sized = (value) => { const data = Buffer.from(value), size = Buffer.alloc(4); size.writeUInt32BE(data.length); return Buffer.concat([size, data]); };

const text = (value) => typeof value === "string" && value.length > 0;
const words = (value) => text(value) && value.length <= 256;
const whole = (value) => Number.isSafeInteger(value) && value >= 0;
const listed = (most) => (value) => Array.isArray(value) && value.length <= most && value.every((one) => text(one) && one.length <= 128);
const anything = () => true;
const oneOf = (values) => { const known = new Set(values); return (value) => known.has(value); };
const closed = (required, optional) => (value) => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  for (const name in required) if (!required[name](value[name])) return false;
  for (const name in value) if (!(name in required) && !(name in optional && optional[name](value[name]))) return false;
  return true;
};
const string = (value) => typeof value === "string";
const client = closed({ id: oneOf(ids), version: words, platform: words, mode: oneOf(modes) },
  { displayName: words, deviceFamily: words, modelIdentifier: words, instanceId: words, buildId: string, timeZone: string });
const device = closed({ id: text, publicKey: text, signature: text, signedAt: whole, nonce: text }, {});
const auth = closed({}, { token: string, deviceToken: string, bootstrapToken: string, password: string });
const connect = closed({ minProtocol: whole, maxProtocol: whole, client, device, auth },
  { role: text, scopes: listed(64), caps: listed(512), commands: listed(512), permissions: anything, pathEnv: string, locale: string, userAgent: string });
const request = closed({ type: oneOf(["req"]), id: text, method: text }, { params: anything, traceparent: string });

const forwarded = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip"];
function local(request) {
  const host = request.socket.remoteAddress;
  const loopback = host === "::1" || host.startsWith("127.") || host.startsWith("::ffff:127.");
  return loopback && !forwarded.some((name) => request.headers[name]?.trim());
}
function tokenOf(grant, id) {
  const mac = crypto.createHmac("sha256", gatewayKey);
  for (const part of ["pairing token v1", id, grant.role, grant.issue]) mac.update(sized(part));
  return mac.digest("base64url");
}
function refusal(p, nonce, page) {
  if (!(p.minProtocol <= 3 && p.maxProtocol >= 3)) return "protocol";
  if (page !== undefined) return "origin";
  const d = p.device, c = p.client;
  const raw = Buffer.from(d.publicKey, "base64url");
  if (crypto.createHash("sha256").update(raw).digest("hex") !== d.id) return "id";
  if (Math.abs(Date.now() - d.signedAt) > 120000 || d.nonce !== nonce) return "stale";
  const payload = ["v3", d.id, c.id, c.mode, p.role, p.scopes.join(","), d.signedAt, p.auth.deviceToken, nonce, c.platform.toLowerCase(), ""].join("|");
  const publicKey = crypto.createPublicKey({ key: Buffer.concat([prefix, raw]), format: "der", type: "spki" });
  if (!crypto.verify(null, Buffer.from(payload), publicKey, Buffer.from(d.signature, "base64url"))) return "signature";
  const grant = grants[d.id];
  if (!grant) return "unknown";
  const expected = Buffer.from(tokenOf(grant, d.id)), given = Buffer.from(p.auth.deviceToken);
  if (given.length !== expected.length || !crypto.timingSafeEqual(given, expected)) return "token";
  if (grant.key !== d.publicKey || grant.role !== p.role || grant.platform !== c.platform) return "pairing";
  return p.scopes.every((scope) => grant.scopes.includes(scope)) ? null : "scopes";
}

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: 65536, perMessageDeflate: false, backlog: 1024 });
const sessions = new Map(), lobby = new Map(), uses = new Map();
server.on("connection", (socket, head) => {
  const nonce = crypto.randomUUID(), id = crypto.randomUUID(), host = head.socket.remoteAddress, here = local(head);
  let inside = null, waiting = true;
  const leave = () => { if (waiting) { waiting = false; clearTimeout(deadline); lobby.set(host, lobby.get(host) - 1); } };
  const deadline = setTimeout(() => socket.close(1000), 15000);
  lobby.set(host, (lobby.get(host) ?? 0) + 1);
  socket.send(JSON.stringify({ type: "event", event: "connect.challenge", payload: { nonce, ts: Date.now() } }));
  socket.on("close", () => {
    leave();
    if (inside) { sessions.delete(id); say("disconnected", { device: inside.device.id, role: inside.role }); }
  });
  socket.on("message", (data) => {
    const frame = JSON.parse(data.toString());
    if (inside) {
      if (!request(frame) || frame.method !== "health") { socket.close(1008, "shape"); return; }
      socket.send(JSON.stringify({ type: "res", id: frame.id, ok: true, payload: {
        ok: true, ts: Date.now(), durationMs: 0, channels: {}, channelOrder: [], channelLabels: {}, heartbeatSeconds: 0,
        defaultAgentId: "main", agents: [], sessions: { path: "", count: 0, recent: [] } } }));
      return;
    }
    const p = frame.params;
    const why = request(frame) && frame.method === "connect" && connect(p) ? refusal(p, nonce, head.headers.origin) : "shape";
    if (why !== null) {
      socket.send(JSON.stringify({ type: "res", id: frame.id ?? "invalid", ok: false, error: { code: "INVALID_REQUEST", message: why } }));
      socket.close(1008, why);
      return;
    }
    inside = p;
    leave();
    uses.set(p.device.id, { role: p.role, at: Date.now(), address: here ? null : host });
    const hello = {
      type: "hello-ok", protocol: 3, server: { version: "0.1.0", connId: id },
      features: { methods,
        events: ["connect.challenge", "device.pair.changed", "device.pair.requested", "device.pair.resolved", "shutdown", "tick"] },
      snapshot: { presence: [], health: {}, stateVersion: { presence: 0, health: 0 }, uptimeMs: Math.round(process.uptime() * 1000),
        sessionDefaults: { defaultAgentId: "main", mainKey: "main", mainSessionKey: "agent:main:main", scope: "per-sender" } },
      auth: { role: p.role, scopes: p.scopes, deviceToken: tokenOf(grants[p.device.id], p.device.id), issuedAtMs: grants[p.device.id].at },
      policy: { maxPayload: 1048576, maxBufferedBytes: 1048576, tickIntervalMs: 30000 },
    };
    socket.send(JSON.stringify({ type: "res", id: frame.id, ok: true, payload: hello }));
    sessions.set(id, socket);
    say("connected", { device: p.device.id, role: p.role, method: "device-token", client: p.client.id });
  });
});
server.on("listening", () => console.log(server.address().port));
