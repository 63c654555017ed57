// Tests of otlp.js in Node.js: node --test
import assert from "node:assert/strict";
import { test } from "node:test";
import { Batch } from "../otlp.js";

const utf8 = new TextEncoder();

function varint(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return [...bytes, value];
}

const field = (number, ...content) => {
  const bytes = content.flat();
  return [...varint(number * 8 + 2), ...varint(bytes.length), ...bytes];
};
const string = (number, text) => field(number, [...utf8.encode(text)]);
const attribute = (number, key, value) => field(number, string(1, key), field(2, string(1, value)));
const span = (name, ...attributes) => field(2, string(5, name), ...attributes.map(([key, value]) => attribute(9, key, value)));
const spans = (service, ...all) => field(1, field(1, attribute(1, "service.name", service)), field(2, ...all));
const record = (severity, body) => field(2, severity > 0 ? [16, severity] : [], field(5, string(1, body)));
const bytes = (...groups) => Uint8Array.from(groups.flat());

// What `visit` makes of a batch.
function made(signal, batch, visit) {
  const of = new Batch(signal, batch);
  of.items(visit);
  return of.outcome();
}

test("attributes are set, replaced and removed, and all else stays as it was", () => {
  const batch = bytes(
    spans("shop", span("a", ["k", "old"], ["other", "k"]), span("b")),
    spans("bank", span("c", ["other", "x"])),
  );
  const { data } = made("traces", batch, (item) => {
    if (item.name === "c") item.remove("other");
    else item.set("k", `${item.resource.get("service.name")} ${item.get("k")}`);
  });
  const expected = bytes(
    spans("shop", span("a", ["other", "k"], ["k", "shop old"]), span("b", ["k", "shop undefined"])),
    spans("bank", span("c")),
  );
  assert.deepEqual(data, { tag: "replaced", val: expected });
});

test("what is not touched is the same batch", () => {
  const batch = bytes(spans("shop", span("a", ["k", "v"])));
  const { data, losses } = made("traces", batch, (item) => {
    assert.equal(item.get("k"), "v");
    assert.equal(item.has("v"), false);
    item.remove("nothing");
  });
  assert.deepEqual([data, losses], [{ tag: "unchanged" }, []]);
});

test("items go, and groups with the last of theirs", () => {
  const batch = bytes(field(1, field(2, record(5, "a"), record(0, "b")), field(2, record(1, "c"))), field(1, field(2, record(2, "d"))));
  const below = (least) => (item) => item.severity > 0 && item.severity < least && item.drop("low");
  const { data, losses } = made("logs", batch, below(9));
  assert.deepEqual(data, { tag: "replaced", val: bytes(field(1, field(2, record(0, "b")))) });
  assert.deepEqual(losses, [{ reason: "low", items: 3n, fault: undefined }]);
  const all = made("logs", batch, (item) => item.drop("all"));
  assert.deepEqual([all.data, all.losses[0].items], [{ tag: "nothing" }, 4n]);
});

test("points of every kind of metric are found, and a metric goes with its last point", () => {
  const kinds = [[5, 7], [7, 7], [9, 9], [10, 1], [11, 7]];
  const metric = ([data, number], key) => field(2, string(1, "m"), field(data, field(1, attribute(number, key, "v"))));
  const batch = bytes(field(1, field(2, ...kinds.map((kind) => metric(kind, "old")))));
  const { data } = made("metrics", batch, (item) => {
    item.set("new", item.get("old"));
    item.remove("old");
  });
  assert.deepEqual(data.val, bytes(field(1, field(2, ...kinds.map((kind) => metric(kind, "new"))))));
  let seen = 0;
  const less = made("metrics", batch, (item) => seen++ > 0 && item.drop("x"));
  assert.deepEqual(less.data.val, bytes(field(1, field(2, metric(kinds[0], "old")))));
});

test("values of all types come back as they were set", () => {
  const values = ["text", "", true, false, 0, 1, -1, 300, 2 ** 53 - 1, 1.5, -0, 2n ** 63n - 1n, -(2n ** 63n)];
  for (const value of values) {
    const first = new Batch("traces", bytes(spans("shop", span("a"))));
    first.items((item) => item.set("k", value));
    first.items((item) => {
      const found = item.get("k");
      assert.deepEqual(typeof found === "bigint" && typeof value === "number" ? Number(found) : found, value);
    });
  }
  assert.throws(() => made("traces", bytes(spans("shop", span("a"))), (item) => item.set("k", {})), TypeError);
});

test("names and bodies are changed", () => {
  const renamed = made("traces", bytes(spans("shop", span("a", ["k", "v"]))), (item) => {
    item.name = "ä" + item.name;
    assert.equal(item.name, "äa");
  });
  assert.deepEqual(renamed.data.val, bytes(spans("shop", field(2, attribute(9, "k", "v"), string(5, "äa")))));
  const logs = bytes(field(1, field(2, record(0, "secret"))));
  const { data } = made("logs", logs, (item) => (item.body = item.body.replace("secret", "***")));
  assert.deepEqual(data.val, bytes(field(1, field(2, record(0, "***")))));
});

test("resources are changed", () => {
  const batch = new Batch("traces", bytes(spans("shop", span("a"))));
  batch.resources((resource) => resource.set("service.name", "bank"));
  assert.deepEqual(batch.outcome().data.val, bytes(spans("bank", span("a"))));
});

test("keys are found whatever stands around them, in any script, and asked for in any order", () => {
  const keys = ["ключ", "naïve", "k", "k.k", "\u0080\u009f€", "x".repeat(200)];
  const batch = bytes(spans("shop", ...keys.map((key) => span(key, ["a", key], [key, "found"], ["z", key]))));
  for (const order of [keys, [...keys].reverse()]) {
    made("traces", batch, (item) => {
      for (const key of order) assert.equal(item.get(key), key === item.name ? "found" : undefined);
    });
  }
});

test("keys that are encoded in a long way are found too", () => {
  // The length of the key in three bytes instead of one.
  const pair = [10, 129, 128, 0, ...utf8.encode("k"), ...field(2, string(1, "v"))];
  const batch = bytes(field(1, field(2, field(2, field(9, pair)))));
  made("traces", batch, (item) => assert.equal(item.get("k"), "v"));
});

test("random batches are changed as a plain way would change them", () => {
  // A generator of its own, so that a failure can be repeated.
  let state = 1;
  const random = (below) => (state = (state * 48271) % 2147483647) % below;
  const name = () => "abc".charAt(random(3)).repeat(1 + random(2));
  for (let round = 0; round < 300; round++) {
    const some = (most, make) => Array.from({ length: random(most + 1) }, make);
    const groups = some(2, () => ({
      service: name(),
      spans: some(4, () => {
        const attributes = new Map(some(4, () => [name(), name().repeat(random(90))]));
        return { name: name(), attributes: [...attributes] };
      }),
    }));
    const write = (all) => bytes(...all.map((group) => spans(group.service, ...group.spans.map((it) => span(it.name, ...it.attributes)))));
    const [drop, set] = [name(), name()];
    const { data } = made("traces", write(groups), (item) => {
      if (item.name === drop) item.drop("x");
      else item.set(set, "new");
    });
    const expected = groups.map((group) => ({
      service: group.service,
      had: group.spans.length,
      spans: group.spans
        .filter((it) => it.name !== drop)
        .map((it) => ({ name: it.name, attributes: [...it.attributes.filter(([key]) => key !== set), [set, "new"]] })),
    }));
    const left = write(expected.filter((group) => group.had === 0 || group.spans.length > 0));
    if (data.tag === "replaced") assert.deepEqual(data.val, left);
    else if (data.tag === "nothing") assert.equal(left.length, 0);
    else assert.deepEqual(left, write(groups));
  }
});

test("a batch that is cut off throws or gives something, but does not hang", () => {
  const batch = bytes(spans("shop", span("a", ["k", "v"], ["other", "x"]), span("b")));
  for (let length = 1; length < batch.length; length++) {
    assert.throws(() => made("traces", batch.slice(0, length), (item) => item.set("k", "new")), Error, `${length}`);
  }
});
