// Tests the connection without leaving the form, so that an entered password stays. Without this script the form is sent.
document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-psc-test]");
    if (!button || !button.form) {
        return;
    }
    event.preventDefault();
    const label = button.textContent;
    button.disabled = true;
    button.textContent = button.dataset.pscTest;
    try {
        const answer = await fetch(button.getAttribute("formaction"), {method: "POST", body: new FormData(button.form)});
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const outcome = page.getElementById("psc-tested");
        const shown = document.getElementById("psc-tested");
        if (!outcome || !outcome.firstElementChild) {
            throw new Error("no outcome");
        }
        outcome.querySelector("[data-psc-reload]")?.remove();
        shown.replaceChildren(...outcome.childNodes);
        shown.focus();
        shown.scrollIntoView({block: "center"});
    } catch {
        button.form.requestSubmit(Object.assign(button, {disabled: false}));
    } finally {
        button.disabled = false;
        button.textContent = label;
    }
});
