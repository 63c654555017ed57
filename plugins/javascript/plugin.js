// Sets an attribute of every item, and drops log records below a severity.
//
//     [processors.wasm.config]
//     key = "environment"
//     value = "production"
//     drop_below = "info"       # trace, debug, info, warn, error, fatal; by default nothing is dropped
import { log } from "tidegate:plugin/host@0.1.0";
import { Batch } from "./otlp.js";

const SEVERITIES = { trace: 1, debug: 5, info: 9, warn: 13, error: 17, fatal: 21 };

const KNOWN = ["key", "value", "drop_below"];

let signal;
let settings;

// Throws what is wrong with it: the agent says so, and does not use the plugin.
function read(config) {
  const { key, value, drop_below: below } = config;
  const unknown = Object.keys(config).find((name) => !KNOWN.includes(name));
  if (unknown !== undefined) throw `unknown field \`${unknown}\``;
  if (typeof key !== "string" || key === "") throw "`key` must be a text";
  if (!["string", "number", "boolean"].includes(typeof value)) throw "`value` must be a text, a number or true or false";
  if (below !== undefined && !Object.hasOwn(SEVERITIES, below)) {
    throw `\`drop_below\` must be one of ${Object.keys(SEVERITIES).join(", ")}`;
  }
  return { key, value, least: SEVERITIES[below] ?? 0 };
}

export const guest = {
  describe() {
    return {
      name: "javascript-example",
      version: "0.1.0",
      summary: "Sets an attribute, and drops log records below a severity",
      signals: ["traces", "metrics", "logs"],
      configSchema: "",
    };
  },

  configure(of, config) {
    signal = of;
    settings = read(JSON.parse(config));
    log("debug", `sets ${settings.key}`);
    return { tickIntervalMs: undefined };
  },

  process(bytes) {
    const batch = new Batch(signal, bytes);
    batch.items((item) => {
      // A record without a severity is kept: nobody said that it is not important.
      if (signal === "logs" && item.severity > 0 && item.severity < settings.least) item.drop("low_severity");
      else item.set(settings.key, settings.value);
    });
    return batch.outcome();
  },

  tick() {},
};
