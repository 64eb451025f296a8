// A server on `ws` that logs devices in as the gateway does: challenge, shapes, SHA-256, Ed25519, token HMAC, hello; then answers calls.
// Its one argument is a file with the gateway key, the devices' generations and the methods to name.
import crypto from "node:crypto";
import fs from "node:fs";
import { WebSocketServer } from "ws";
const { key, issues, methods } = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
const gatewayKey = Buffer.from(key, "hex");
const prefix = Buffer.from("302a300506032b6570032100", "hex");
const text = (value) => typeof value === "string" && value.length > 0;
const sized = (value) => { const data = Buffer.from(value), size = Buffer.alloc(4); size.writeUInt32BE(data.length); return Buffer.concat([size, data]); };
function admitted(frame, nonce) {
  const p = frame.params, d = p?.device, c = p?.client;
  if (frame.type !== "req" || !text(frame.id) || frame.method !== "connect" || !d || !c || !p.auth) return "shape";
  if (![d.id, d.publicKey, d.signature, d.nonce, c.id, c.version, c.platform, c.mode, p.role].every(text)) return "shape";
  if (!Array.isArray(p.scopes) || !p.scopes.every(text) || !(p.minProtocol <= 3 && p.maxProtocol >= 3)) return "shape";
  const raw = Buffer.from(d.publicKey, "base64url");
  if (crypto.createHash("sha256").update(raw).digest("hex") !== d.id) return "id";
  if (Math.abs(Date.now() - d.signedAt) > 120000 || d.nonce !== nonce) return "stale";
  const payload = ["v3", d.id, c.id, c.mode, p.role, p.scopes.join(","), d.signedAt, p.auth.deviceToken, nonce, c.platform.toLowerCase(), ""].join("|");
  const publicKey = crypto.createPublicKey({ key: Buffer.concat([prefix, raw]), format: "der", type: "spki" });
  if (!crypto.verify(null, Buffer.from(payload), publicKey, Buffer.from(d.signature, "base64url"))) return "signature";
  const issue = issues[d.id];
  if (!issue) return "unknown";
  const mac = crypto.createHmac("sha256", gatewayKey);
  for (const part of ["pairing token v1", d.id, p.role, issue]) mac.update(sized(part));
  const expected = Buffer.from(mac.digest("base64url")), given = Buffer.from(p.auth.deviceToken);
  if (given.length !== expected.length || !crypto.timingSafeEqual(given, expected)) return "token";
  return null;
}
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: 65536, perMessageDeflate: false, backlog: 1024 });
server.on("connection", (socket) => {
  const nonce = crypto.randomUUID();
  let inside = false;
  socket.send(JSON.stringify({ type: "event", event: "connect.challenge", payload: { nonce, ts: Date.now() } }));
  socket.on("message", (data) => {
    const frame = JSON.parse(data.toString());
    if (inside) {
      socket.send(JSON.stringify({ type: "res", id: frame.id, ok: true, payload: { ok: true, ts: Date.now(), channels: {} } }));
      return;
    }
    const why = admitted(frame, nonce);
    if (why !== null) {
      socket.send(JSON.stringify({ type: "res", id: frame.id ?? "invalid", ok: false, error: { code: "INVALID_REQUEST", message: why } }));
      socket.close(1008, why);
      return;
    }
    inside = true;
    const hello = {
      type: "hello-ok", protocol: 3, server: { version: "0.1.0", connId: crypto.randomUUID() },
      features: { methods,
        events: ["connect.challenge", "device.pair.requested", "device.pair.resolved", "shutdown", "tick"] },
      snapshot: { presence: [], health: {}, stateVersion: { presence: 0, health: 0 }, uptimeMs: Math.round(process.uptime() * 1000) },
      auth: { role: frame.params.role, scopes: frame.params.scopes, deviceToken: frame.params.auth.deviceToken, issuedAtMs: 1 },
      policy: { maxPayload: 1048576, maxBufferedBytes: 1048576, tickIntervalMs: 30000 },
    };
    socket.send(JSON.stringify({ type: "res", id: frame.id, ok: true, payload: hello }));
  });
});
server.on("listening", () => console.log(server.address().port));
