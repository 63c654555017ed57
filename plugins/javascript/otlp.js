// Looks at OTLP batches in protobuf's wire format and changes them in place: what is not touched is copied, not decoded.
//
//     const batch = new Batch("logs", bytes);
//     batch.items((item) => item.set("environment", "production"));
//     return batch.outcome();
//
// Depends on nothing; runs in Node.js and in a plugin.

// A field of a message is known by its number, shifted, with the type of what follows in the lowest three bits.
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

// Where the attributes of each kind of item stand, and what else it has.
const SPAN = { attributes: 9, name: 5 };
const LOG_RECORD = { attributes: 6, severity: 2, body: 5 };
const NUMBER_POINT = { attributes: 7 };
const HISTOGRAM_POINT = { attributes: 9 };
const EXPONENTIAL_POINT = { attributes: 1 };
const SUMMARY_POINT = { attributes: 7 };
const RESOURCE = { attributes: 1 };

// The fields of a metric that hold its points.
const POINTS = new Map([
  [5, NUMBER_POINT],
  [7, NUMBER_POINT],
  [9, HISTOGRAM_POINT],
  [10, EXPONENTIAL_POINT],
  [11, SUMMARY_POINT],
]);

const encoder = new TextEncoder();
const decoder = new TextDecoder();

// The bytes of the keys that were asked for: they are the same for every item.
const KEYS_MAX = 1000;
const keys = new Map();

function keyBytes(key) {
  let bytes = keys.get(key);
  if (bytes === undefined) {
    if (keys.size >= KEYS_MAX) keys.clear();
    keys.set(key, (bytes = encoder.encode(key)));
  }
  return bytes;
}

// A place in a message. `tag` and the rest tell of the field that was read last.
class Reader {
  constructor(bytes, start, end) {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
    this.begin = start; // of the field, with its tag
    this.number = 0;
    this.type = 0;
    this.from = 0; // of the value
    this.to = 0;
  }

  // Goes on to the next field. Lengths were checked by the agent; what is wrong nevertheless throws.
  next() {
    if (this.at >= this.end) return false;
    const bytes = this.bytes;
    this.begin = this.at;
    let tag = bytes[this.at++];
    if (tag > 127) {
      this.at--;
      tag = this.varint();
    }
    this.number = tag >>> 3;
    this.type = tag & 7;
    this.from = this.at;
    switch (this.type) {
      case BYTES: {
        let length = bytes[this.at++];
        if (length > 127) {
          this.at--;
          length = this.varint();
        }
        this.from = this.at;
        this.at += length;
        break;
      }
      case VARINT:
        while (bytes[this.at++] > 127);
        break;
      case FIXED64:
        this.at += 8;
        break;
      case FIXED32:
        this.at += 4;
        break;
      default:
        throw new Error(`the wire type ${this.type} is not known`);
    }
    this.to = this.at;
    if (this.at > this.end) throw new Error("a message is cut off");
    return true;
  }

  // A number of at most 53 bits.
  varint() {
    let value = 0;
    let factor = 1;
    for (let count = 0; count < 10; count++) {
      const byte = this.bytes[this.at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
    throw new Error("a number is longer than 10 bytes");
  }
}

// What a message has become: pieces of the old one and new ones.
class Pieces {
  constructor(bytes) {
    this.bytes = bytes;
    this.list = [];
    this.length = 0;
    this.copied = 0;
  }

  add(piece) {
    this.list.push(piece);
    this.length += piece.length;
  }

  // The old bytes up to `to`; goes on after `next`.
  keep(to, next) {
    if (to > this.copied) this.add(this.bytes.subarray(this.copied, to));
    this.copied = next;
  }

  // A field that holds a message of these pieces.
  field(number, pieces) {
    this.add(Uint8Array.from([...varint(number * 8 + BYTES), ...varint(pieces.length)]));
    for (const piece of pieces.list) this.list.push(piece);
    this.length += pieces.length;
  }

  join() {
    const all = new Uint8Array(this.length);
    let at = 0;
    for (const piece of this.list) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }
}

// A number below 2^53.
function varint(value) {
  const bytes = [];
  while (value > 127) {
    bytes.push((value % 128) + 128);
    value = Math.floor(value / 128);
  }
  bytes.push(value);
  return bytes;
}

function bytesField(number, content) {
  const head = [...varint(number * 8 + BYTES), ...varint(content.length)];
  const bytes = new Uint8Array(head.length + content.length);
  bytes.set(head);
  bytes.set(content, head.length);
  return bytes;
}

// An AnyValue of a string, a boolean, an integer (BigInt, or a Number without a fraction) or another Number.
function encodeValue(value) {
  switch (typeof value) {
    case "string":
      return bytesField(1, encoder.encode(value));
    case "boolean":
      return Uint8Array.of(2 * 8 + VARINT, value ? 1 : 0);
    case "bigint":
      return encodeInteger(value);
    case "number": {
      if (Number.isSafeInteger(value) && !Object.is(value, -0)) return encodeInteger(BigInt(value));
      const bytes = new Uint8Array(9);
      bytes[0] = 4 * 8 + FIXED64;
      new DataView(bytes.buffer).setFloat64(1, value, true);
      return bytes;
    }
    default:
      throw new TypeError(`an attribute cannot be of the type ${typeof value}`);
  }
}

function encodeInteger(value) {
  const bytes = [3 * 8 + VARINT];
  let rest = BigInt.asUintN(64, value);
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

// What an AnyValue holds: a string, a boolean, a BigInt or a Number. Arrays, maps, bytes and nothing are undefined.
function decodeValue(bytes, start, end) {
  const reader = new Reader(bytes, start, end);
  let value;
  while (reader.next()) {
    switch (reader.number) {
      case 1:
        value = decoder.decode(bytes.subarray(reader.from, reader.to));
        break;
      case 2:
        value = bytes[reader.from] !== 0;
        break;
      case 3:
        value = decodeInteger(bytes, reader.from);
        break;
      case 4:
        value = new DataView(bytes.buffer, bytes.byteOffset + reader.from, 8).getFloat64(0, true);
        break;
      default:
        value = undefined;
    }
  }
  return value;
}

function decodeInteger(bytes, at) {
  let value = 0n;
  for (let shift = 0n; shift < 70n; shift += 7n) {
    const byte = bytes[at++];
    value |= BigInt(byte & 127) << shift;
    if (byte < 128) break;
  }
  return BigInt.asIntN(64, value);
}

// Something with attributes: a span, a log record, a data point or a resource.
export class Item {
  #bytes;
  #start;
  #end;
  #shape;
  #changes; // of attributes: key to the new value, or to undefined if it goes
  #others; // of other fields: number to the bytes of the new field
  #group;
  #dropped = false;

  constructor(bytes, start, end, shape, group) {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.#shape = shape;
    this.#group = group;
  }

  // The resource that it belongs to, to be read.
  get resource() {
    return this.#group?.resource;
  }

  // The attribute `key`, if it has one: a string, a boolean, a BigInt or a Number.
  get(key) {
    if (this.#changes?.has(key)) return this.#changes.get(key);
    const found = this.#find(keyBytes(key));
    return found && decodeValue(this.#bytes, found.from, found.to);
  }

  // Whether it has the attribute `key`, of whatever type.
  has(key) {
    if (this.#changes?.has(key)) return this.#changes.get(key) !== undefined;
    return this.#find(keyBytes(key)) !== undefined;
  }

  // Sets the attribute `key` to a string, a boolean, a BigInt or a Number.
  set(key, value) {
    this.#changes ??= new Map();
    this.#changes.set(key, value);
  }

  // Takes the attribute `key` away.
  remove(key) {
    if (this.has(key)) this.set(key, undefined);
  }

  // The name of a span.
  get name() {
    return this.#text(this.#shape.name);
  }

  set name(name) {
    if (this.#shape.name === undefined) throw new TypeError("only spans have names here");
    this.#replace(this.#shape.name, encoder.encode(name));
  }

  // The severity of a log record, 1 to 24; 0 if it has none.
  get severity() {
    const field = this.#field(this.#shape.severity);
    return field ? field.varint() : 0;
  }

  // The body of a log record, if it is a string, a boolean or a number.
  get body() {
    const field = this.#field(this.#shape.body);
    return field && decodeValue(this.#bytes, field.from, field.to);
  }

  set body(value) {
    if (this.#shape.body === undefined) throw new TypeError("only log records have bodies");
    this.#replace(this.#shape.body, encodeValue(value));
  }

  // Drops it; `reason` is what the ledger of the agent has it under: a word of lower case letters, digits and `_`.
  drop(reason) {
    if (this.#group === undefined) throw new TypeError("a resource cannot be dropped, its items can");
    if (!this.#dropped) this.#group.lose(reason);
    this.#dropped = true;
  }

  #replace(number, content) {
    this.#others ??= new Map();
    this.#others.set(number, bytesField(number, content));
  }

  #text(number) {
    const field = this.#field(number);
    return field ? decoder.decode(this.#bytes.subarray(field.from, field.to)) : "";
  }

  // A reader that stands at the value of the field, as it is now.
  #field(number) {
    if (number === undefined) return undefined;
    const changed = this.#others?.get(number);
    const reader = changed
      ? new Reader(changed, 0, changed.length)
      : new Reader(this.#bytes, this.#start, this.#end);
    let found;
    while (reader.next()) {
      if (reader.number !== number) continue;
      found = new Reader(reader.bytes, reader.from, reader.to);
      found.from = reader.from;
      found.to = reader.to;
    }
    return found;
  }

  #find(key) {
    const reader = new Reader(this.#bytes, this.#start, this.#end);
    while (reader.next()) {
      if (reader.number !== this.#shape.attributes || reader.type !== BYTES) continue;
      const found = attribute(this.#bytes, reader.from, reader.to, key);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  // What has become of it: undefined if nothing has, null if it is gone, else its pieces.
  result() {
    if (this.#dropped) return null;
    if (this.#changes === undefined && this.#others === undefined) return undefined;
    const pieces = new Pieces(this.#bytes);
    pieces.copied = this.#start;
    const reader = new Reader(this.#bytes, this.#start, this.#end);
    const changes = this.#changes && [...this.#changes.keys()].map((key) => [key, keyBytes(key)]);
    while (reader.next()) {
      if (this.#others?.has(reader.number)) pieces.keep(reader.begin, reader.at);
      if (changes === undefined || reader.number !== this.#shape.attributes || reader.type !== BYTES) continue;
      for (const [, key] of changes) {
        if (attribute(this.#bytes, reader.from, reader.to, key) === undefined) continue;
        pieces.keep(reader.begin, reader.at);
        break;
      }
    }
    pieces.keep(this.#end, this.#end);
    this.#others?.forEach((field) => pieces.add(field));
    this.#changes?.forEach((value, key) => {
      if (value !== undefined) pieces.add(encodeAttribute(this.#shape.attributes, key, value));
    });
    return pieces;
  }
}

// The attributes that were set last, encoded: mostly they are the same for every item.
const ENCODED_MAX = 1000;
const encoded = new Map();

function encodeAttribute(number, key, value) {
  const name = `${number} ${typeof value} ${value} ${key}`;
  let field = encoded.get(name);
  if (field === undefined) {
    const pair = new Pieces();
    pair.add(bytesField(1, keyBytes(key)));
    pair.add(bytesField(2, encodeValue(value)));
    field = bytesField(number, pair.join());
    if (encoded.size >= ENCODED_MAX) encoded.clear();
    encoded.set(name, field);
  }
  return field;
}

// Where the value of a KeyValue is, if it has this key. An attribute without a value has an empty one.
function attribute(bytes, start, end, key) {
  // Nearly all begin with their key, and most are not the one.
  if (bytes[start] === 8 + BYTES && bytes[start + 1] < 128) {
    if (bytes[start + 1] !== key.length) return undefined;
    for (let at = key.length - 1; at >= 0; at--) {
      if (bytes[start + 2 + at] !== key[at]) return undefined;
    }
  }
  const reader = new Reader(bytes, start, end);
  let same = key.length === 0;
  const value = { from: end, to: end };
  while (reader.next()) {
    if (reader.number === 1) same = equal(bytes, reader.from, reader.to, key);
    if (reader.number === 2) [value.from, value.to] = [reader.from, reader.to];
  }
  return same ? value : undefined;
}

function equal(bytes, from, to, other) {
  if (to - from !== other.length) return false;
  for (let at = 0; at < other.length; at++) {
    if (bytes[from + at] !== other[at]) return false;
  }
  return true;
}

// What an item is told of where it stands.
class Group {
  constructor(batch) {
    this.batch = batch;
    this.resource = undefined;
  }

  lose(reason) {
    const losses = this.batch.losses;
    losses.set(reason, (losses.get(reason) ?? 0) + 1);
  }
}

// A batch of one signal: `traces`, `metrics` or `logs`.
export class Batch {
  constructor(signal, bytes) {
    this.signal = signal;
    this.bytes = bytes;
    this.changed = false;
    this.losses = new Map();
  }

  // Calls `visit` with every item: span, log record or data point.
  items(visit) {
    const group = new Group(this);
    const one = (shape) => (bytes, start, end) => {
      const item = new Item(bytes, start, end, shape, group);
      visit(item);
      return item.result();
    };
    const points = new Map();
    for (const shape of new Set(POINTS.values())) points.set(shape, one(shape));
    const metric = (bytes, start, end) =>
      fields(bytes, start, end, (number) => {
        const shape = POINTS.get(number);
        return shape && ((...data) => fields(...data, (inner) => (inner === 1 ? points.get(shape) : undefined), 1));
      });
    const item = { traces: one(SPAN), logs: one(LOG_RECORD), metrics: metric }[this.signal];
    const scope = (...message) => fields(...message, (number) => (number === 2 ? item : undefined), 2);
    this.#pass((bytes, start, end) => {
      group.resource = resourceOf(bytes, start, end);
      return fields(bytes, start, end, (number) => (number === 2 ? scope : undefined), 2);
    });
  }

  // Calls `visit` with every resource.
  resources(visit) {
    const one = (bytes, start, end) => {
      const item = new Item(bytes, start, end, RESOURCE);
      visit(item);
      return item.result();
    };
    this.#pass((...message) => fields(...message, (number) => (number === 1 ? one : undefined)));
  }

  #pass(visitGroup) {
    if (this.bytes.length === 0) return;
    const pieces = fields(this.bytes, 0, this.bytes.length, (number) => (number === 1 ? visitGroup : undefined), 1);
    if (pieces === undefined) return;
    this.changed = true;
    this.bytes = pieces === null ? new Uint8Array() : pieces.join();
  }

  // What `process` is to give back.
  outcome() {
    const losses = [...this.losses].map(([reason, items]) => ({ reason, items: BigInt(items), fault: undefined }));
    if (!this.changed) return { data: { tag: "unchanged" }, losses };
    if (this.bytes.length === 0) return { data: { tag: "nothing" }, losses };
    return { data: { tag: "replaced", val: this.bytes }, losses };
  }
}

// The resource of a ResourceSpans and its sisters.
function resourceOf(bytes, start, end) {
  const reader = new Reader(bytes, start, end);
  while (reader.next()) {
    if (reader.number === 1) return new Item(bytes, reader.from, reader.to, RESOURCE);
  }
  return new Item(bytes, start, start, RESOURCE);
}

// Passes over the fields of a message. `visitor(number)` says which function looks at the content of a field; that gives
// undefined if it is unchanged, null if the field goes, or its new pieces. The message goes with the last field of the
// number `essential` that goes.
function fields(bytes, start, end, visitor, essential) {
  const reader = new Reader(bytes, start, end);
  let pieces;
  let left = 0;
  let gone = false;
  while (reader.next()) {
    const visit = reader.type === BYTES ? visitor(reader.number) : undefined;
    const made = visit?.(bytes, reader.from, reader.to);
    if (made === null) gone ||= reader.number === essential;
    else if (reader.number === essential) left++;
    if (made === undefined) continue;
    if (pieces === undefined) {
      pieces = new Pieces(bytes);
      pieces.copied = start;
    }
    pieces.keep(reader.begin, reader.at);
    if (made !== null) pieces.field(reader.number, made);
  }
  if (gone && left === 0) return null;
  pieces?.keep(end, end);
  return pieces;
}
