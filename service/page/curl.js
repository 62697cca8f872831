// The search as a command for the shell.

export function asCurl(request) {
  const body = JSON.stringify(request).replaceAll("'", "'\\''");
  const curl = `curl ${location.origin}/search -H 'Content-Type: application/json' -d`;
  const picture = request.image;
  return picture ? `${piped(body, picture)} | ${curl} @-` : `${curl} '${body}'`;
}

// Megabytes of picture do not fit a command line: the shell reads them from a file.
function piped(body, picture) {
  const [before, after] = body.split(picture);
  return `{ printf %s '${before}'; base64 -w0 PICTURE; printf %s '${after}'; }`;
}
