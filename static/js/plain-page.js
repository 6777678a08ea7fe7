import { bindThemeButton } from "./theme.js";

bindThemeButton();
