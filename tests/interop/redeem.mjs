// OpenClaw's own gateway client, told to log in with a bootstrap token as its apps do: prints the hello, or why there was none.
import { pathToFileURL } from "node:url";

const [packageFile, url, role, scopes] = process.argv.slice(2);
const sdk = new URL("./dist/plugin-sdk/gateway-runtime.js", pathToFileURL(packageFile));
const { GatewayClient } = await import(sdk.href);
const say = (document) => {
  process.stdout.write(`${JSON.stringify(document)}\n`);
  process.exit(0);
};
new GatewayClient({
  url,
  bootstrapToken: process.env.SETUP_TOKEN,
  role,
  scopes: scopes ? scopes.split(",") : [],
  clientName: role === "node" ? "node-host" : "cli",
  mode: role === "node" ? "node" : "cli",
  onHelloOk: (hello) => setTimeout(() => say({ hello }), 50),
  onConnectError: (error) => say({ refused: error.message, details: error.details ?? null }),
  onClose: (code, reason) => say({ closed: code, reason }),
}).start();
