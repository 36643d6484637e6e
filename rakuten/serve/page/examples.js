// Invented products, as shops write them: one with entities and tags, one with a photo (a drawing of the
// demo catalogue's generator).

export const EXAMPLES = [
  {
    label: "A pet's dinner",
    designation: "Croquettes pour chat stérilisé au saumon, sac 4 kg",
    description: "Sans céréales, pour chien ou chat difficile. Gamelle offerte.",
  },
  {
    label: "Title and photo",
    designation: "Plaid vintage rétro, édition limitée",
    description: "",
    photo: "page/example.jpg",
  },
  {
    label: "With HTML in it",
    designation: "Coffret calligraphie&nbsp;: stylo, encre &amp; carnet &quot;Élégance&quot;",
    description: "<p>Papier &eacute;pais 120&nbsp;g/m&sup2;, <b>12 feutres</b> et une r&egrave;gle.</p>",
  },
  {
    label: "A title alone",
    designation: "Parasol de jardin déporté 3 m avec housse",
    description: "",
  },
];
