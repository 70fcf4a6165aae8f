/** Builds the panel's page into ../ipychat/display, and the JupyterLab extension into built/. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const here = new URL("./", import.meta.url);
const display = new URL("../ipychat/display/", here);
const read = (name) => readFileSync(new URL(name, here), "utf8");

// a test in Python does the same, to tell a stale build without Node
const sources = ["build.mjs", "package.json", "package-lock.json"];
for (const folder of ["schema", "src", "style"])
  for (const entry of readdirSync(new URL(folder, here), { recursive: true, withFileTypes: true }))
    if (entry.isFile()) sources.push(`${entry.parentPath}/${entry.name}`.slice(here.pathname.length));
const hash = createHash("sha256");
for (const name of sources.sort()) hash.update(`${name}\0`).update(read(name)).update("\0");
const digest = `sources ${hash.digest("hex")}`;
const mark = `/* ${digest} */`;

const bundled = ["markdown-it", "dompurify", "highlight.js", "katex"];
const licence = (name) =>
  readdirSync(new URL(`node_modules/${name}/`, here)).find((one) => /^licen[cs]e/i.test(one));
const licences = bundled
  .map((name) => `${name}\n\n${read(`node_modules/${name}/${licence(name)}`)}`)
  .join("\n\n----\n\n");
const credits = bundled.map((name) => {
  const { version, license } = JSON.parse(read(`node_modules/${name}/package.json`));
  return `${name} ${version} (${license})`;
});

async function bundle(entry, to, options = {}) {
  const { outputFiles } = await build({
    entryPoints: [new URL(entry, here).pathname],
    bundle: true,
    charset: "utf8",
    format: "esm",
    legalComments: "none",
    minify: true,
    outfile: to.pathname,
    target: "es2022",
    write: true,
    ...options,
  });
  return outputFiles;
}

// what most formulas need: a panel without the extension brings it along, at each opening
const COMMON = /Main-Regular|Main-Bold\.|Math-Italic|AMS|Caligraphic-Regular|Size/;

/** KaTeX's style sheet with the faces that are wanted, each in one format. */
const faces = (wanted) => ({
  name: "faces",
  setup({ onLoad }) {
    onLoad({ filter: /katex\.css$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replace(/@font-face\s*\{[^}]*\}/g, (face) =>
        wanted(face) ? face.replace(/,\s*url\([^)]*\) format\("(?:woff|truetype)"\)/g, "") : "",
      ),
      loader: "css",
    }));
  },
});

writeFileSync(new URL("panel.licences.txt", display), licences);
await bundle("src/anywidget.ts", new URL("panel.js", display), {
  banner: { js: `/* with ${credits.join(", ")}: see panel.licences.txt */\n${mark}` },
});
await bundle("style/widget.css", new URL("panel.css", display), {
  banner: { css: mark },
  plugins: [faces((font) => COMMON.test(font))],
  loader: { ".woff2": "dataurl" },
});

rmSync(new URL("build", here), { recursive: true, force: true });
rmSync(new URL("built", here), { recursive: true, force: true });
await bundle("src/lab/index.ts", new URL("build/lab.js", here), {
  external: ["@codemirror/*", "@jupyterlab/*", "@lumino/*"],
});
await bundle("style/lab.css", new URL("build/lab.css", here), {
  plugins: [faces(() => true)],
  loader: { ".woff2": "file" },
});
const builder = "node_modules/@jupyter/builder/lib/build-labextension.js";
const core = "node_modules/@jupyterlab/core-meta/core.package.json";
const { status } = spawnSync(process.execPath, [builder, "--core-package-file", core, "."], {
  cwd: here,
  stdio: "inherit",
});
if (status) process.exit(status);
writeFileSync(
  new URL("built/jupyter-ipychat/licences.txt", here),
  `${licences}\n\n----\n\nBuilt from ${digest}\n`,
);
