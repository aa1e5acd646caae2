// Loads a picture of an item when its link is clicked. Without this script the link opens the picture.
document.addEventListener("click", (event) => {
    const link = event.target.closest("a.psc-picture[data-src]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) {
        return;
    }
    event.preventDefault();
    const picture = document.createElement("img");
    picture.referrerPolicy = "no-referrer";
    picture.alt = link.textContent;
    picture.src = link.dataset.src;
    link.replaceWith(picture);
});
