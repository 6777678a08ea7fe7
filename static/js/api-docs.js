// The explorer of the API: Swagger UI over our OpenAPI document, in the pages' frame.
import { bindThemeButton } from "./theme.js";

bindThemeButton();

const explorer = document.querySelector("#explorer");
window.SwaggerUIBundle({
  url: explorer.dataset.document,
  domNode: explorer,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: -1,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null, // nothing leaves this site
});
