// What was asked, as a command that asks it again.

/** Text as one word of a POSIX shell. */
const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A file's name as curl's -F reads it: in double quotes, which keep ; and , from meaning something. */
const fileName = (name) => `"${name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;

/** The command for what `app.js` sends; the key stands in a variable, never in the text. */
export function curl(product, hasKey) {
  const { image, ...texts } = product;
  const lines = [`curl ${quote(new URL("predict?explain=true", document.baseURI).href)}`];
  if (hasKey) lines.push('-H "Authorization: Bearer $RAKUTEN_API_KEY"');
  if (image) {
    // --form-string: in -F a leading @ or < would read a file.
    for (const [name, text] of Object.entries(texts)) lines.push(`--form-string ${quote(`${name}=${text}`)}`);
    lines.push(`-F ${quote(`image=@${fileName(image.name)};type=${image.type || "application/octet-stream"}`)}`);
  } else {
    lines.push("-H 'Content-Type: application/json'", `-d ${quote(JSON.stringify(texts))}`);
  }
  return lines.join(" \\\n  ");
}
