//! Texts that say nothing true about a picture.

use tuwen_data::rng::Rng;

/// Captions in other languages, of scenes that are common in photographs.
const FOREIGN: [&str; 24] = [
    "Ein kleines Mädchen klettert die Treppe zu seinem Spielhaus hinauf",
    "Zwei Männer sitzen auf einer Bank und trinken Kaffee",
    "Die Straßenbahn fährt durch die verschneite Stadt",
    "Un homme en costume traverse la rue sous la pluie",
    "Des enfants jouent au ballon sur la plage au coucher du soleil",
    "Une vieille femme vend des légumes au marché",
    "Un perro negro corre por la playa con una pelota",
    "Tres amigos preparan la cena en una cocina pequeña",
    "La montaña está cubierta de nieve y de nubes",
    "Una ragazza legge un libro seduta sull'erba",
    "Il gatto dorme sopra il divano rosso",
    "Um menino anda de bicicleta perto do rio",
    "Duas mulheres conversam em frente de uma loja",
    "Een man schaatst over het bevroren kanaal",
    "Hunden springer genom det höga gräset",
    "Dziewczynka karmi gołębie na rynku",
    "Küçük bir çocuk parkta kaydıraktan kayıyor",
    "Собака бежит по снегу за красным мячом",
    "Две женщины разговаривают на скамейке в парке",
    "一个小女孩在公园里放风筝",
    "两只狗在草地上奔跑",
    "男の人が海辺で写真を撮っている",
    "아이들이 운동장에서 축구를 하고 있다",
    "رجل يركب دراجة في شارع مزدحم",
];

/// What stands around pictures; `{}` is a number.
const BOILERPLATE: [&str; 20] = [
    "IMG_{}.JPG",
    "DSC{} copy (1).jpg",
    "Click to enlarge image",
    "Buy now and get free shipping on orders over ${}",
    "Photo {} of {}",
    "Stock photo ID {} - royalty free",
    "Share on Facebook | Tweet | Pin it",
    "Copyright {}. All rights reserved.",
    "Add to cart - only {} left in stock",
    "Home > Products > Category {} > Item {}",
    "Image may be subject to copyright",
    "Sign up for our newsletter and save {} %",
    "Posted by admin on 12/{}/2014, {} comments",
    "Loading... please wait",
    "screenshot_{}.png",
    "Page {} | Official Website",
    "Rated {} out of 5 stars by {} customers",
    "Download free HD wallpaper {}x{}",
    "View full size in gallery ({} photos)",
    "null",
];

/// A caption in another language than English.
pub(super) fn foreign(rng: &mut Rng) -> String {
    FOREIGN[rng.below(FOREIGN.len() as u64) as usize].to_owned()
}

/// What may stand around any picture.
pub(super) fn boilerplate(rng: &mut Rng) -> String {
    let pieces: Vec<&str> = BOILERPLATE[rng.below(BOILERPLATE.len() as u64) as usize].split("{}").collect();
    let mut text = pieces[0].to_owned();
    for piece in &pieces[1..] {
        text += &(1 + rng.below(4000)).to_string();
        text += piece;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_filled_in() {
        let mut rng = Rng::new(&[1]);
        let texts: std::collections::BTreeSet<String> = (0..500).map(|_| boilerplate(&mut rng)).collect();
        assert!(texts.len() > 100 && texts.iter().all(|text| !text.contains('{')), "{texts:?}");
        assert!((0..100).all(|_| !foreign(&mut rng).is_empty()));
    }
}
