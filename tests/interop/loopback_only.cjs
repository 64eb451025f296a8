// Loaded into every Node process of the suite: whatever the client wants from outside this machine is refused on the spot.
// `status` asks the package registry for a newer version, and plugins would install their dependencies.
"use strict";
const dgram = require("node:dgram");
const dns = require("node:dns");
const fs = require("node:fs");
const net = require("node:net");

const here = (host) => host === undefined || host === "localhost" || host === "::1" || /^127\./.test(host);
const refusal = (host) => {
  if (process.env.LOOPBACK_ONLY_REFUSALS) fs.appendFileSync(process.env.LOOPBACK_ONLY_REFUSALS, `${host}\n`);
  return Object.assign(new Error(`${host} is not this machine`), { code: "ECONNREFUSED" });
};

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  const target = Array.isArray(args[0]) ? args[0][0] : args[0];
  const host = typeof target === "object" && target !== null ? target.host : typeof args[1] === "string" ? args[1] : undefined;
  if (here(host)) return connect.apply(this, args);
  const refused = refusal(host);
  process.nextTick(() => this.destroy(refused));
  return this;
};

for (const name of Object.keys(dns).filter((key) => /^(lookup|resolve|reverse)/.test(key))) {
  const ask = dns[name];
  dns[name] = function (host, ...rest) {
    if (here(host)) return ask.call(this, host, ...rest);
    process.nextTick(rest[rest.length - 1], refusal(host));
  };
  const promise = dns.promises[name];
  if (promise === undefined) continue;
  dns.promises[name] = async (host, ...rest) => {
    if (here(host)) return promise(host, ...rest);
    throw refusal(host);
  };
}

dgram.Socket.prototype.send = function (...args) {
  const done = args[args.length - 1];
  if (typeof done === "function") process.nextTick(done, refusal("a datagram's address"));
};
