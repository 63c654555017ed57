// Looks at OTLP batches in protobuf's wire format and changes them in place: what is not touched is copied, not decoded.
//
//     const batch = new Batch("logs", bytes);
//     batch.items((item) => item.set("environment", "production"));
//     return batch.outcome();
//
// Depends on nothing; runs in Node.js and in a plugin. There the engine only interprets, so that every step costs 100 ns, a
// call 500, an object 2,000 and one with private fields 10,000; what is built in has its full speed. Hence few objects, no
// private fields (names that begin with `_` are not for others), and searching by what is built in.

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

// Bytes as text of as many characters: searching that is native, and much faster than looking at bytes one by one.
const searchable = new TextDecoder("latin1");

// The keys that were asked for, as bytes and as what to search for: they are the same for every item.
const KEYS_MAX = 1000;
const keys = new Map();

function encodeKey(name) {
  let key = keys.get(name);
  if (key === undefined) {
    if (keys.size >= KEYS_MAX) keys.clear();
    const bytes = encoder.encode(name);
    // From `from` on it is nowhere before `to`: what a search in these bytes has found.
    key = { name, bytes, text: searchable.decode(bytes), searched: undefined, from: 0, to: 0 };
    keys.set(name, key);
  }
  return key;
}

// The batch that is searched, and its text.
let searched;
let text = "";

function search(bytes) {
  searched = bytes;
  text = bytes === undefined ? "" : searchable.decode(bytes);
}

// Whether a key is somewhere in a part of a batch. Where it is not, there is no attribute with it. Items are asked one after
// the other, so that a search goes on where the last one ended.
function mentions(bytes, start, end, key) {
  if (searched !== bytes) search(bytes);
  if (key.searched !== bytes || start > key.to) {
    key.searched = bytes;
    key.from = start;
    const found = text.indexOf(key.text, start);
    key.to = found < 0 ? bytes.length : found;
  } else if (start < key.from) {
    return text.slice(start, end).includes(key.text);
  }
  return key.to + key.bytes.length <= end;
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
    let at = this.at;
    this.begin = at;
    let tag = bytes[at++];
    if (tag > 127) {
      tag = this.varint();
      at = this.at;
    }
    this.number = tag >>> 3;
    const type = (this.type = tag & 7);
    if (type === BYTES) {
      let length = bytes[at++];
      if (length > 127) {
        const second = bytes[at];
        if (second < 128) {
          length += second * 128 - 128;
          at++;
        } else {
          this.at = at - 1;
          length = this.varint();
          at = this.at;
        }
      }
      this.from = at;
      at += length;
    } else {
      this.from = at;
      if (type === VARINT) while (bytes[at++] > 127);
      else if (type === FIXED64) at += 8;
      else if (type === FIXED32) at += 4;
      else throw new Error(`the wire type ${type} is not known`);
    }
    this.to = this.at = at;
    // Beyond the last byte numbers are NaN, which is not less than anything.
    if (!(at <= this.end)) throw new Error("a message is cut off");
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

// What a batch becomes: pieces of the old one and new ones.
class Output {
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
    if (to > this.copied) {
      this.list.push(this.bytes.subarray(this.copied, to));
      this.length += to - this.copied;
    }
    this.copied = next;
  }

  // Begins a message whose head comes when its length is known. Gives what `end` is to get.
  begin() {
    this.list.push(undefined);
    return this.list.length - 1;
  }

  end(index, number, before) {
    const piece = head(number, this.length - before);
    this.list[index] = piece;
    this.length += piece.length;
  }

  join() {
    const all = new Uint8Array(this.length);
    const list = this.list;
    const count = list.length;
    let at = 0;
    for (let index = 0; index < count; index++) {
      const piece = list[index];
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }
}

// The bytes that a number below 2^53 takes as a varint.
function varintLength(value) {
  let length = 1;
  for (; value > 127; length++) value = Math.floor(value / 128);
  return length;
}

function putVarint(bytes, at, value) {
  for (; value > 127; value = Math.floor(value / 128)) bytes[at++] = (value % 128) + 128;
  bytes[at++] = value;
  return at;
}

// What stands before the content of a field of bytes.
function head(number, length) {
  const tag = number * 8 + BYTES;
  // Items are mostly of this size.
  if (length > 127 && length < 16384 && tag < 128) {
    const bytes = new Uint8Array(3);
    bytes[0] = tag;
    bytes[1] = length | 128;
    bytes[2] = length >>> 7;
    return bytes;
  }
  const bytes = new Uint8Array(varintLength(tag) + varintLength(length));
  putVarint(bytes, putVarint(bytes, 0, tag), length);
  return bytes;
}

function bytesField(number, content) {
  const before = head(number, content.length);
  const bytes = new Uint8Array(before.length + content.length);
  bytes.set(before);
  bytes.set(content, before.length);
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

// Something with attributes: a span, a log record, a data point or a resource. It is that of the moment: when the next one
// is visited, the same object stands for that.
export class Item {
  constructor(shape, batch) {
    this._shape = shape;
    this._batch = batch;
    this._bytes = undefined;
    this._start = 0;
    this._end = 0;
    this._keys = []; // of attributes that change
    this._values = []; // their new values; undefined for those that go
    this._others = undefined; // other fields that change: number to the bytes of the new field
    this._dropped = false;
  }

  _move(bytes, start, end) {
    this._bytes = bytes;
    this._start = start;
    this._end = end;
    if (this._keys.length > 0) {
      this._keys = [];
      this._values = [];
    }
    this._others = undefined;
    this._dropped = false;
  }

  // The resource that it belongs to, to be read.
  get resource() {
    return this._shape === RESOURCE ? undefined : this._batch._resource;
  }

  // The attribute `key`, if it has one: a string, a boolean, a BigInt or a Number.
  get(name) {
    const key = encodeKey(name);
    const index = this._keys.indexOf(key);
    if (index >= 0) return this._values[index];
    const found = this._find(key);
    return found && decodeValue(this._bytes, found.from, found.to);
  }

  // Whether it has the attribute `key`, of whatever type.
  has(name) {
    const key = encodeKey(name);
    const index = this._keys.indexOf(key);
    return index >= 0 ? this._values[index] !== undefined : this._find(key) !== undefined;
  }

  // Sets the attribute `key` to a string, a boolean, a BigInt or a Number.
  set(name, value) {
    const key = encodeKey(name);
    const index = this._keys.length === 0 ? -1 : this._keys.indexOf(key);
    if (index >= 0) {
      this._values[index] = value;
    } else {
      this._keys.push(key);
      this._values.push(value);
    }
  }

  // Takes the attribute `key` away.
  remove(name) {
    if (this.has(name)) this.set(name, undefined);
  }

  // The name of a span.
  get name() {
    const field = this._field(this._shape.name);
    return field ? decoder.decode(field.bytes.subarray(field.from, field.to)) : "";
  }

  set name(name) {
    if (this._shape.name === undefined) throw new TypeError("only spans have names here");
    this._replace(this._shape.name, encoder.encode(name));
  }

  // The severity of a log record, 1 to 24; 0 if it has none.
  get severity() {
    const field = this._field(this._shape.severity);
    if (field === undefined) return 0;
    field.at = field.from;
    return field.varint();
  }

  // The body of a log record, if it is a string, a boolean or a number.
  get body() {
    const field = this._field(this._shape.body);
    return field && decodeValue(field.bytes, field.from, field.to);
  }

  set body(value) {
    if (this._shape.body === undefined) throw new TypeError("only log records have bodies");
    this._replace(this._shape.body, encodeValue(value));
  }

  // Drops it; `reason` is what the ledger of the agent has it under: a word of lower case letters, digits and `_`.
  drop(reason) {
    if (this._shape === RESOURCE) throw new TypeError("a resource cannot be dropped, its items can");
    if (!this._dropped) this._batch._lose(reason);
    this._dropped = true;
  }

  _replace(number, content) {
    this._others ??= new Map();
    this._others.set(number, bytesField(number, content));
  }

  // A reader that has just read the field, as it is now.
  _field(number) {
    if (number === undefined) return undefined;
    const changed = this._others?.get(number);
    const reader = changed ? new Reader(changed, 0, changed.length) : new Reader(this._bytes, this._start, this._end);
    let last = -1;
    while (reader.next()) {
      if (reader.number === number) last = reader.begin;
    }
    if (last < 0) return undefined;
    reader.at = last;
    reader.next();
    return reader;
  }

  _find(key) {
    if (!mentions(this._bytes, this._start, this._end, key)) return undefined;
    const reader = new Reader(this._bytes, this._start, this._end);
    while (reader.next()) {
      if (reader.number !== this._shape.attributes || reader.type !== BYTES) continue;
      const found = attribute(this._bytes, reader.from, reader.to, key.bytes);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  // Writes what has become of it, as a field `number` that began at `begin`. Whether it is SAME, CHANGED or GONE.
  _write(output, number, begin) {
    if (this._dropped) {
      output.keep(begin, this._end);
      return GONE;
    }
    const keys = this._keys;
    if (keys.length === 0 && this._others === undefined) return SAME;
    output.keep(begin, this._start);
    const index = output.begin();
    const before = output.length;
    this._leaveOut(output);
    output.keep(this._end, this._end);
    if (this._others !== undefined) this._others.forEach((field) => output.add(field));
    for (let at = 0; at < keys.length; at++) {
      const value = this._values[at];
      if (value !== undefined) output.add(encodeAttribute(this._shape.attributes, keys[at], value));
    }
    output.end(index, number, before);
    return CHANGED;
  }

  // Keeps everything but what has changed.
  _leaveOut(output) {
    const keys = this._keys;
    let changed;
    for (let at = 0; at < keys.length; at++) {
      if (mentions(this._bytes, this._start, this._end, keys[at])) (changed ??= []).push(keys[at].bytes);
    }
    if (changed === undefined && this._others === undefined) return;
    const reader = new Reader(this._bytes, this._start, this._end);
    const isChanged = (key) => attribute(this._bytes, reader.from, reader.to, key) !== undefined;
    while (reader.next()) {
      const goes =
        reader.number === this._shape.attributes && reader.type === BYTES
          ? changed?.some(isChanged)
          : this._others?.has(reader.number);
      if (goes) output.keep(reader.begin, reader.at);
    }
  }
}

// The attributes that were set last, encoded: mostly they are the same for every item.
const ENCODED_MAX = 1000;
const encoded = new Map();

function encodeAttribute(number, key, value) {
  // Numbers differ from item to item, and -0 and 0 are the same text.
  const name = typeof value === "number" ? undefined : `${number} ${typeof value} ${value} ${key.name}`;
  let field = encoded.get(name);
  if (field === undefined) {
    const [first, second] = [bytesField(1, key.bytes), bytesField(2, encodeValue(value))];
    const pair = new Uint8Array(first.length + second.length);
    pair.set(first);
    pair.set(second, first.length);
    field = bytesField(number, pair);
    if (encoded.size >= ENCODED_MAX) encoded.clear();
    if (name !== undefined) encoded.set(name, field);
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

// What became of a message.
const SAME = 0;
const CHANGED = 1;
const GONE = 2;

// A writer of a message: of its fields those are written anew for which `writerOf(number)` has a writer. A writer is told
// where the field begins and where its content is, and gives what became of it. When the last of these fields goes, so does
// the message.
function message(writerOf) {
  return (output, number, begin, start, end) => {
    const length = output.length;
    const copied = output.copied;
    const pieces = output.list.length;
    output.keep(begin, start);
    const index = output.begin();
    const before = output.length;
    const made = fields(output, start, end, writerOf);
    if (made === CHANGED) {
      output.keep(end, end);
      output.end(index, number, before);
      return CHANGED;
    }
    // As if nothing of it had been written.
    output.length = length;
    output.copied = copied;
    output.list.length = pieces;
    if (made === GONE) output.keep(begin, end);
    return made;
  };
}

function fields(output, start, end, writerOf) {
  const reader = new Reader(output.bytes, start, end);
  let isChanged = false;
  let isGone = false;
  let isLeft = false;
  while (reader.next()) {
    const write = reader.type === BYTES ? writerOf(reader.number) : undefined;
    if (write === undefined) continue;
    const made = write(output, reader.number, reader.begin, reader.from, reader.to);
    if (made !== SAME) isChanged = true;
    if (made === GONE) isGone = true;
    else isLeft = true;
  }
  if (!isChanged) return SAME;
  return isGone && !isLeft ? GONE : CHANGED;
}

// A batch of one signal: `traces`, `metrics` or `logs`.
export class Batch {
  constructor(signal, bytes) {
    this.signal = signal;
    this.bytes = bytes;
    this.changed = false;
    this.losses = new Map();
    this._resource = new Item(RESOURCE, this);
  }

  // Calls `visit` with every item: span, log record or data point.
  items(visit) {
    const item = this.signal === "metrics" ? this._metric(visit) : this._visitor(this.signal === "traces" ? SPAN : LOG_RECORD, visit);
    const scope = message((number) => (number === 2 ? item : undefined));
    const group = message((number) => (number === 2 ? scope : undefined));
    this._pass((output, number, begin, start, end) => {
      this._findResource(output.bytes, start, end);
      return group(output, number, begin, start, end);
    });
  }

  // Calls `visit` with every resource.
  resources(visit) {
    const resource = this._visitor(RESOURCE, visit);
    this._pass(message((number) => (number === 1 ? resource : undefined)));
  }

  // A writer of items of one shape.
  _visitor(shape, visit) {
    const item = new Item(shape, this);
    return (output, number, begin, start, end) => {
      item._move(output.bytes, start, end);
      visit(item);
      return item._write(output, number, begin);
    };
  }

  // A writer of metrics: their points are the field 1 of whatever kind of data they have.
  _metric(visit) {
    const kinds = new Map();
    for (const [number, shape] of POINTS) {
      const point = this._visitor(shape, visit);
      kinds.set(number, message((inner) => (inner === 1 ? point : undefined)));
    }
    return message((number) => kinds.get(number));
  }

  // The resource of a ResourceSpans and its sisters.
  _findResource(bytes, start, end) {
    const reader = new Reader(bytes, start, end);
    this._resource._move(bytes, start, start);
    while (reader.next()) {
      if (reader.number === 1) return this._resource._move(bytes, reader.from, reader.to);
    }
  }

  _pass(writeGroup) {
    const output = new Output(this.bytes);
    const made = fields(output, 0, this.bytes.length, (number) => (number === 1 ? writeGroup : undefined));
    if (made === SAME) return;
    output.keep(this.bytes.length, this.bytes.length);
    this.changed = true;
    this.bytes = made === GONE ? new Uint8Array() : output.join();
  }

  _lose(reason) {
    this.losses.set(reason, (this.losses.get(reason) ?? 0) + 1);
  }

  // What `process` is to give back.
  outcome() {
    search(undefined);
    const losses = [...this.losses].map(([reason, items]) => ({ reason, items: BigInt(items), fault: undefined }));
    if (!this.changed) return { data: { tag: "unchanged" }, losses };
    if (this.bytes.length === 0) return { data: { tag: "nothing" }, losses };
    return { data: { tag: "replaced", val: this.bytes }, losses };
  }
}
