// Puts the headings of the sections in `.psc-sections` into one row of buttons, each of which shows its section and
// hides the others. Without this script the sections stand below each other.
for (const box of document.querySelectorAll(".psc-sections")) {
    const sections = [...box.querySelectorAll(":scope > fieldset")];
    const row = document.createElement("div");
    row.className = "psc-tabs";
    const buttons = sections.map((section, number) => {
        const heading = section.querySelector("h2");
        const details = section.querySelector(":scope > details");
        const button = document.createElement("button");
        section.id ||= `psc-section-${number}`;
        section.hidden = number > 0 || Boolean(details);
        button.type = "button";
        button.textContent = heading.textContent;
        button.setAttribute("aria-controls", section.id);
        button.setAttribute("aria-expanded", String(!section.hidden));
        (details ? details.querySelector("summary") : heading).hidden = true;
        if (details) {
            details.open = true;
        }
        row.append(button);
        return button;
    });
    row.addEventListener("click", (event) => {
        const chosen = buttons.indexOf(event.target);
        if (chosen < 0) {
            return;
        }
        sections.forEach((section, number) => {
            section.hidden = number !== chosen || !section.hidden;
            buttons[number].setAttribute("aria-expanded", String(!section.hidden));
        });
    });
    box.prepend(row);
}
