// The explorer of the API: Swagger UI over our OpenAPI document, in the pages' frame and theme.
import { bindThemeButton, onTheme } from "./theme.js";

const root = document.documentElement;
const explorer = document.querySelector("#explorer");

function dress() {
  root.classList.toggle("dark-mode", root.dataset.theme === "dark"); // Swagger UI's own word for it
}

/** The token that the status page was given in this tab, so that nobody types it twice. */
function token() {
  try {
    return sessionStorage.getItem("api-token");
  } catch {
    return null; // storage is off: the Authorize button does
  }
}

/** Swagger UI leaves selects without a name, and puts links into its buttons: neither can be read out. */
function mend() {
  for (const link of explorer.querySelectorAll(".opblock-summary-control a[href]")) link.removeAttribute("href");
  for (const field of explorer.querySelectorAll("select:not([aria-label]), textarea:not([aria-label])")) {
    const row = field.closest("tr[data-param-name]");
    field.setAttribute("aria-label", row?.dataset.paramName ?? "Media type");
  }
  for (const region of explorer.querySelectorAll("pre.microlight:not([tabindex]), .table-container:not([tabindex])")) {
    region.tabIndex = 0; // what scrolls can be scrolled by keys
  }
}

/** To the operation that the address names, below the bar that stays in sight: its own scrolling knows of none. */
function reveal(element) {
  const bar = document.querySelector(".topbar").offsetHeight + 8;
  scrollTo({ top: scrollY + element.getBoundingClientRect().top - bar });
}

const belowTheBar = () => ({
  statePlugins: { layout: { wrapActions: { scrollToElement: () => reveal } } },
});

dress();
onTheme(dress);
bindThemeButton();

if (window.SwaggerUIBundle) {
  new MutationObserver(mend).observe(explorer, { childList: true, subtree: true });
  const ui = window.SwaggerUIBundle({
    url: explorer.dataset.document,
    domNode: explorer,
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: -1,
    displayRequestDuration: true,
    tryItOutEnabled: true,
    plugins: [belowTheBar],
    validatorUrl: null, // nothing leaves this site
    onComplete() {
      if (token()) ui.preauthorizeApiKey("token", token());
    },
  });
} else {
  document.querySelector("#no-explorer").hidden = false;
}
