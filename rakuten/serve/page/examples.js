// Invented products, as shops write them: one with entities and tags, one with a photo (a drawing of the
// demo catalogue's generator).

export const EXAMPLES = [
  {
    label: "A pet's dinner",
    designation: "Croquettes pour chat et chien, sac de 4 kg",
    description: "Avec gamelle et litière offertes, pour chat d'intérieur, lapin ou hamster.",
  },
  {
    label: "Title and photo",
    designation: "Plaid vintage rétro, édition limitée",
    description: "Une pièce de collection, authentique et rare.",
    photo: "page/example.jpg",
  },
  {
    label: "With HTML in it",
    designation: "Coffret calligraphie&nbsp;: stylo, encre &amp; carnet &quot;Élégance&quot;",
    description: "<p>Cahier de papier &eacute;pais, <b>crayon</b>, feutre, gomme et r&egrave;gle.</p>",
  },
  {
    label: "A title alone",
    designation: "Parasol, hamac et chaise de jardin en teck, coussin offert",
    description: "",
  },
];
