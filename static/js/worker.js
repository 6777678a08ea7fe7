// Hands the browser the page it shows while the server is away. Plain http on another machine allows no worker, and a
// user may forbid them: then the browser's own page stands there, and all else works.
function register() {
  navigator.serviceWorker?.register("/sw.js", { updateViaCache: "none" }).catch(() => {});
}

if (document.readyState === "complete") register();
else addEventListener("load", register, { once: true }); // after what the user waits for
