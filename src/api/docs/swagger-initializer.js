// Without the top bar, which asks for other URLs, and without the validator, which would send the description elsewhere.
window.addEventListener("load", () => {
  window.ui = SwaggerUIBundle({
    "url": "openapi.json",
    "dom_id": "#swagger-ui",
    "deepLinking": true,
    "validatorUrl": "none",
    "layout": "BaseLayout",
    "presets": [SwaggerUIBundle.presets.apis],
    "plugins": [SwaggerUIBundle.plugins.DownloadUrl],
  });
});
