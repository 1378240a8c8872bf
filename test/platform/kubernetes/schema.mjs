// SPDX-License-Identifier: GPL-3.0-or-later
// Objects on standard input (a JSON array), against the schemas of the npm packages in the folder given: types and
// required fields by their validators, and unknown fields by their type declarations, since a schema of Kubernetes
// does not forbid them. One complaint a line; the exit status says whether there was one.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const modules = join(resolve(process.argv[2]), "node_modules");
const sources = {
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "cert-manager.io": "@kubernetes-models/cert-manager",
};

function placeOf(apiVersion, kind) {
  const [group, version] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
  const packaged = sources[group] ?? "kubernetes-models";
  return join(modules, packaged, group, version, kind);
}

// --- type declarations: enough of their grammar to know which fields an object may have ---
const parsed = new Map();
function declarations(file) {
  if (parsed.has(file)) return parsed.get(file);
  const text = readFileSync(file, "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
  const imports = new Map();
  for (const [, names, from] of text.matchAll(/import \{([^}]*)\} from "([^"]+)"/g))
    for (const name of names.split(",")) imports.set(name.trim().split(" as ").pop(), from);
  const found = { file, text, imports };
  parsed.set(file, found);
  return found;
}
function follow(name, from) {
  const where = from.imports.get(name);
  if (!where) return interfaceIn(from, name);
  const bare = where.startsWith(".") ? join(dirname(from.file), where) : join(modules, where);
  const file = bare.replace(/\.js$/, "") + ".d.ts";
  if (!existsSync(file)) return null;
  const there = declarations(file);
  const alias = there.text.match(new RegExp(`export type \\{[^}]*?(\\w+) as ${name}\\b`));
  return interfaceIn(there, alias ? alias[1] : name);
}
function interfaceIn(there, name) {
  const start = there.text.match(new RegExp(`interface ${name}( extends [^{]*)?\\s*\\{`));
  if (start) {
    const type = typeAt(there, start.index + start[0].length - 1)[0];
    if (start[1]?.includes("TypeMeta")) for (const key of ["apiVersion", "kind"]) type.fields.set(key, null);
    return type;
  }
  const equal = there.text.match(new RegExp(`type ${name} =`));
  return equal ? typeAt(there, equal.index + equal[0].length)[0] : null;
}
/// The type that begins at `at`, and where it ends. null: anything.
function typeAt(there, at) {
  const { text } = there;
  const skip = () => { while (/\s/.test(text[at])) ++at; };
  skip();
  let type = null;
  if (text[at] === "{") {
    type = { fields: new Map(), other: undefined };
    for (++at, skip(); text[at] !== "}"; skip()) {
      const key = text.slice(at).match(/^(?:"([^"]+)"|(\w+)|\[[^\]]+\])\??:\s*/);
      if (!key) throw new Error(`${there.file}: ${text.slice(at, at + 60)}`);
      at += key[0].length;
      const [value, end] = typeAt(there, at);
      if (key[1] ?? key[2]) type.fields.set(key[1] ?? key[2], value);
      else type.other = value;
      at = end;
      skip();
      if (text[at] === ";") ++at;
    }
    ++at;
  } else if (text.startsWith("Array<", at)) {
    const [item, end] = typeAt(there, at + 6);
    type = { item };
    at = end;
    skip();
    ++at;
  } else if (text[at] === "(") {
    [type, at] = typeAt(there, at + 1);
    skip();
    ++at;
  } else {
    const word = text.slice(at).match(/^(?:"[^"]*"|[\w.]+)(?:\["[^"]+"\])*/);
    if (!word) throw new Error(`${there.file}: ${text.slice(at, at + 60)}`);
    at += word[0].length;
    if (/^I\w+$/.test(word[0])) type = { name: word[0], there };
  }
  for (;;) {
    skip();
    if (text.startsWith("[]", at)) {
      type = { item: type };
      at += 2;
    } else if (text[at] === "|" || text[at] === "&") {
      const [more, end] = typeAt(there, at + 1);
      type = type ?? more;
      at = end;
    } else return [type, at];
  }
}
function unknown(value, type, path, complaints) {
  while (type?.name) type = follow(type.name, type.there);
  if (!type || value === null || typeof value !== "object") return;
  if (Array.isArray(value)) {
    if (type.item) value.forEach((v, i) => unknown(v, type.item, `${path}[${i}]`, complaints));
    return;
  }
  if (!type.fields) return;
  for (const [key, inner] of Object.entries(value)) {
    if (type.fields.has(key)) unknown(inner, type.fields.get(key), `${path}.${key}`, complaints);
    else if (type.other !== undefined) unknown(inner, type.other, `${path}.${key}`, complaints);
    else complaints.push(`${path}.${key}: no such field`);
  }
}

let bad = 0, checked = 0;
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const title = `${object.kind} ${object.metadata?.name}`;
  const place = placeOf(object.apiVersion ?? "", object.kind ?? "");
  if (!existsSync(`${place}.js`)) {
    console.log(`${title}: no schema for ${object.apiVersion}`);
    ++bad;
    continue;
  }
  const complaints = [];
  const model = (await import(pathToFileURL(`${place}.js`)))[object.kind];
  try {
    new model(object).validate();
  } catch (error) {
    complaints.push(...String(error.message).split("\n"));
  }
  const there = declarations(`${place}.d.ts`);
  const top = interfaceIn(there, `I${object.kind}`);
  if (!top?.fields?.has("metadata")) complaints.push("its type declaration could not be read");
  unknown(object, top, object.kind, complaints);
  ++checked;
  for (const complaint of complaints) console.log(`${title}: ${complaint}`);
  bad += complaints.length;
}
console.log(`${checked} objects, ${bad} complaints`);
process.exit(bad ? 1 : 0);
