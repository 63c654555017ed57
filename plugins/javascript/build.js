// Makes a component of plugin.js: node build.js [SOURCE [OUTPUT]].
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { componentize } from "@bytecodealliance/componentize-js";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const [source = here("plugin.js"), output = here("plugin.wasm")] = process.argv.slice(2);

const { component } = await componentize({
  sourcePath: source,
  witPath: here("../wit"),
  worldName: "processor",
  // What the agent does not have anyway. `stdio` stays: what the engine says when a plugin throws goes to the agent's log.
  disableFeatures: ["random", "clocks", "http", "fetch-event"],
});
await writeFile(output, component);
console.log(`${output}: ${(component.length / 1e6).toFixed(1)} MB`);
