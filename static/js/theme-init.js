// A classic script in the head, so that the theme stands before the first paint. theme.js does the rest.
(function () {
  function kept(key) {
    try {
      return JSON.parse(localStorage.getItem("market:" + key));
    } catch {
      return null; // storage is off or holds something foreign: the defaults do
    }
  }
  document.documentElement.dataset.theme = kept("theme") === "light" ? "light" : "dark";
  if (kept("updown") === "inverse") document.documentElement.dataset.updown = "inverse";
})();
