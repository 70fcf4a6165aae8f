/** Bundles the panel into ../ipychat/display. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const here = new URL("./", import.meta.url);
const target = new URL("../ipychat/display/", here);
const read = (name) => readFileSync(new URL(name, here));

// a test in Python does the same, to tell a stale build without Node
const sources = readdirSync(here).filter((name) => /\.(js|mjs|css)$|^package(-lock)?\.json$/.test(name)).sort();
const hash = createHash("sha256");
for (const name of sources) hash.update(`${name}\0`).update(read(name)).update("\0");
const mark = `/* sources ${hash.digest("hex")} */`;

const bundled = ["marked", "dompurify", "highlight.js"];
const texts = bundled.map((name) => {
  const file = readdirSync(new URL(`node_modules/${name}/`, here)).find((one) => /^licen[cs]e/i.test(one));
  return `${name}\n\n${read(`node_modules/${name}/${file}`)}`;
});
writeFileSync(new URL("panel.licences.txt", target), texts.join("\n\n----\n\n"));
const licences = bundled.map((name) => {
  const { version, license } = JSON.parse(read(`node_modules/${name}/package.json`));
  return `${name} ${version} (${license})`;
});

for (const name of ["panel.js", "panel.css"]) {
  const credits = name.endsWith(".js") ? `/* with ${licences.join(", ")}: see panel.licences.txt */\n` : "";
  const { outputFiles } = await build({
    entryPoints: [new URL(name, here).pathname],
    banner: { [name.split(".")[1]]: `${credits}${mark}` },
    bundle: true,
    charset: "utf8",
    format: "esm",
    legalComments: "none",
    minify: true,
    target: "es2022",
    write: false,
  });
  writeFileSync(new URL(name, target), outputFiles[0].text);
  console.log(name, outputFiles[0].contents.length);
}
