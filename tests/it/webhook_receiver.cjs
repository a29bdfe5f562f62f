// An endpoint for webhooks, which verifies them with the spec's own library for JavaScript.
//
// Prints its URL, then a line of JSON for every request. The library (1.1.1) knows no `v1a`, which is verified
// with Node's own crypto after the spec's text.
const crypto = require("node:crypto");
const http = require("node:http");
const { Webhook } = require("standardwebhooks");

let keys = [];

function verifyAsymmetric(key, headers, body) {
  if (Math.abs(Date.now() / 1000 - Number(headers["webhook-timestamp"])) > 300) throw new Error("too old");
  // an Ed25519 public key as DER is this and the 32 bytes (RFC 8410)
  const prefix = Buffer.from("302a300506032b6570032100", "hex");
  const raw = Buffer.from(key.slice("whpk_".length), "base64");
  const publicKey = crypto.createPublicKey({ key: Buffer.concat([prefix, raw]), format: "der", type: "spki" });
  const signed = Buffer.concat([Buffer.from(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`), body]);
  for (const entry of headers["webhook-signature"].split(" ")) {
    const [version, signature] = entry.split(",");
    if (version === "v1a" && crypto.verify(null, signed, publicKey, Buffer.from(signature, "base64"))) return;
  }
  throw new Error("no signature fits");
}

function verifiedBy(headers, body) {
  return keys.filter((key) => {
    try {
      if (key.startsWith("whsec_")) new Webhook(key).verify(body, headers);
      else verifyAsymmetric(key, headers, body);
      return true;
    } catch {
      return false;
    }
  });
}

const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts);
    if (request.url === "/keys") {
      keys = JSON.parse(body);
      return response.writeHead(204).end();
    }
    const verified = verifiedBy(request.headers, body);
    const { "webhook-id": id, "webhook-signature": signature } = request.headers;
    console.log(JSON.stringify({ path: request.url, id, signature, verified, body: JSON.parse(body) }));
    response.writeHead(verified.length ? 204 : 401).end();
  });
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
