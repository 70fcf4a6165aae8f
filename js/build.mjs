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

const licences = ["marked", "dompurify", "highlight.js"].map((name) => {
  const { version, license } = JSON.parse(read(`node_modules/${name}/package.json`));
  return `${name} ${version} (${license})`;
});
const authors = "Christopher Jeffrey and contributors; Cure53 and contributors; Ivan Sagalaev and contributors";

for (const name of ["panel.js", "panel.css"]) {
  const bundled = name.endsWith(".js") ? `/* with ${licences.join(", ")}: ${authors} */\n` : "";
  const { outputFiles } = await build({
    entryPoints: [new URL(name, here).pathname],
    banner: { [name.split(".")[1]]: `${bundled}${mark}` },
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
