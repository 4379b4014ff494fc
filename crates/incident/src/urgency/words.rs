//! The words by which senders say how bad something is, in their vocabularies and languages, and how they are compared.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{CRITICAL, HIGH, INFO, MEDIUM, Meaning, WARNING};

/// Words as they are written, parted by spaces; they are compared by [`plain`]. What several systems or languages use for different things has the
/// meaning that is worse.
const WORDS: &[(Meaning, &str)] = &[
    (
        CRITICAL,
        "critical crit page pager paging pageme emergency emerg fatal disaster catastrophic catastrophe \
         urgent panic alert red blocker outage down highest veryhigh extreme immediate showstopper \
         kritisch kritische katastrophe notfall ausfall dringend sehrhoch höchste kritiek spoed zeerhoog \
         kritisk kritiskt katastrof kriittinen hätätilanne critique critiques désastre urgence urgente \
         trèsélevé crítico crítica desastre emergencia muyalta muyalto critico critica disastro emergenza \
         emergência muitoalta muitoalto urgentă dezastru krytyczny krytyczna krytyczne awaria pilne pilny \
         katastrofa kritický kritická kritické kritikus kritično kritičan kritik acil felaket kritis \
         darurat nghiêmtrọng khẩncấp κρίσιμο κρίσιμη κρίσιμος حرج حرجة حرجه طارئ عاجل بحرانی קריטי קריטית \
         गंभीर วิกฤต ฉุกเฉิน 严重 嚴重 紧急 緊急 危急 致命 致命的 致命的な障害 灾难 災難 危险 危險 危険 特急 最高 重大 クリティカル 심각 심각함 치명적 긴급 위험 \
         재해",
    ),
    (
        HIGH,
        "high error err errors major severe serious orange failure failed danger important unreachable \
         alerting hoch hohe schwer schwerwiegend fehler störung wichtig hoog hoge ernstig fout belangrijk \
         hög högt allvarlig allvarligt fel høj høy alvorlig fejl feil korkea vakava virhe élevé élevée \
         élevés haut haute majeur majeure importante erreur grave alta alto mayor maggiore maior errore \
         erro ridicat ridicată eroare wysoki wysoka wysokie poważny poważna błąd vysoký vysoká vysoké \
         závažný závažná chyba magas súlyos hiba visok visoko visoka yüksek önemli hata tinggi cao υψηλή \
         υψηλό υψηλός σφάλμα عالي عالية عاليه مرتفع خطأ خطير بالا خطا גבוה גבוהה שגיאה उच्च त्रुटि สูง 高 \
         较高 很高 高级 重要 主要 错误 錯誤 エラー 重度の障害 故障 障害 높음 높은 오류 중대 주요",
    ),
    (
        MEDIUM,
        "medium med mid moderate average normal mittel mittlere gemiddeld medel middel middels keskitaso \
         moyen moyenne modéré media medio moderada moderado média médio mediu medie średni średnia \
         średnie střední stredná közepes srednje orta sedang trungbình μέτρια μέτριο متوسط متوسطة בינוני \
         בינונית मध्यम ปานกลาง 中 中等 中级 一般 一般严重 普通 軽度の障害 보통 중간",
    ),
    (
        WARNING,
        "warning warn warnings minor ticket tickets yellow amber degraded caution attention indeterminate \
         unknown nodata warnung achtung waarschuwing varning advarsel varoitus avertissement mineur \
         mineure advertencia aviso menor precaución avviso avvertimento avvertenza attenzione minore \
         atenção advertência avertisment avertizare ostrzeżenie uwaga varování varovanie upozornění \
         figyelmeztetés upozorenje uyarı dikkat peringatan waspada cảnhbáo προειδοποίηση تحذير تنبيه \
         هشدار אזהרה चेतावनी คำเตือน เตือน 警告 预警 預警 警示 次要 注意 軽微 경고 주의",
    ),
    (
        INFO,
        "info information informational informative inform notice notify notification low lowest verylow \
         minimal trivial debug trace verbose fine ok okay success green blue clear cleared recovered \
         notclassified unclassified log email mail niedrig niedrige gering hinweis informativ laag lage \
         melding låg lågt lav matala tieto faible bas basse baja bajo información informativo \
         informazione informazioni bassa basso baixa baixo informação scăzut informație niski niska \
         niskie informacja nízký nízká nízke informace informácia alacsony információ nisko informacija \
         düşük bilgi rendah informasi thấp thôngtin χαμηλή χαμηλό πληροφορία منخفض منخفضة معلومات اطلاعات \
         נמוך נמוכה מידע निम्न सूचना ต่ำ ข้อมูล 低 较低 低级 提示 信息 資訊 信息提示 通知 情報 未分类 未分類 낮음 낮은 정보 알림",
    ),
    (Meaning::Nobody, "none nobody heartbeat watchdog deadman deadmanswitch deadmansswitch silent"),
];

/// How words begin in languages that change their endings by gender and case. Only of scripts in which a longer word that begins so is
/// of the same meaning.
const STEMS: &[(Meaning, &str)] = &[
    (CRITICAL, "критич катастроф авари аварі чрезвычайн надзвичайн срочн терміново фатальн"),
    (HIGH, "высок висок важн серьезн серйозн сериозн ошибк помилк грешк сбой значительн"),
    (MEDIUM, "средн середн умеренн"),
    (WARNING, "предупрежд попередж внимани увага незначительн"),
    (INFO, "низк низьк нисък информ інформ уведомл сообщени справк"),
];

/// Signs that stand for a word where they stand alone.
const SIGNS: &[(Meaning, &[char])] = &[
    (CRITICAL, &['🔴', '🚨', '🆘', '🟥', '⛔']),
    (HIGH, &['🟠', '🟧', '❌']),
    (WARNING, &['🟡', '🟨', '⚠']),
    (INFO, &['🟢', '🟩', '🔵', '🟦', 'ℹ', '✅']),
];

/// What is said behind a word in a language that writes without spaces: "alarm", "level".
const ENDINGS: &[&str] =
    &["告警", "警报", "警報", "级别", "級別", "等级", "级", "級", "レベル", "度", "수준"];

/// Words that turn the others around.
const NEGATIONS: &str = "no non not never nicht kein keine niet geen inte ikke ei pas sans sin senza \
    não sem nie není не нет ні без";

/// Words that say little beside another one: "warning alert" is a warning.
const WEAK: &[&str] = &["alert", "alerting", "log", "email", "mail", "notification", "notify"];

/// A text as words are compared: without separators, accents and case, in the usual width.
pub(super) fn plain(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).map(fold).filter(|c| c.is_alphanumeric()).collect()
}

/// The words as they are compared, and the beginnings of words.
struct Known {
    words: HashMap<String, Meaning>,
    stems: Vec<(String, Meaning)>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let mut words = HashMap::new();
    for (meaning, row) in WORDS {
        for word in row.split_whitespace() {
            // The worse meanings come first.
            words.entry(plain(word)).or_insert(*meaning);
        }
    }
    let stems =
        STEMS.iter().flat_map(|(meaning, row)| row.split_whitespace().map(|stem| (plain(stem), *meaning)));
    Known { words, stems: stems.collect() }
});

/// A word's meaning, by the word as [`plain`] has it.
pub(super) fn of_word(word: &str) -> Option<Meaning> {
    let known = &*KNOWN;
    if let Some(meaning) = known.words.get(word) {
        return Some(*meaning);
    }
    if word.is_ascii() {
        return None;
    }
    let by_stem = known.stems.iter().find(|(stem, _)| word.starts_with(stem.as_str()));
    by_stem.map(|(_, meaning)| *meaning).or_else(|| {
        let rest = ENDINGS.iter().find_map(|ending| word.strip_suffix(ending))?;
        (!rest.is_empty()).then(|| of_word(rest)).flatten()
    })
}

/// The meaning of a sign that stands alone, such as a red circle.
pub(super) fn of_sign(text: &str) -> Option<Meaning> {
    // A selector of its colour may follow.
    let mut signs = text.chars().filter(|c| !c.is_whitespace() && *c != '\u{fe0f}');
    let (sign, None) = (signs.next()?, signs.next()) else { return None };
    SIGNS.iter().find(|(_, signs)| signs.contains(&sign)).map(|(meaning, _)| *meaning)
}

/// Whether a word turns the others around.
pub(super) fn is_negation(word: &str) -> bool {
    NEGATIONS.split_whitespace().any(|known| plain(known) == word)
}

/// Whether a word says little beside another one.
pub(super) fn is_weak(word: &str) -> bool {
    WEAK.contains(&word)
}

/// A letter without its accent, and in the usual width: keyboards and systems leave accents out.
fn fold(letter: char) -> char {
    match letter {
        'à'..='æ' | 'ā' | 'ă' | 'ą' | 'ạ'..='ặ' => 'a',
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => 'c',
        'ď' | 'đ' | 'ð' => 'd',
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' | 'ẹ'..='ệ' => 'e',
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => 'g',
        'ì'..='ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' | 'ỉ' | 'ị' => 'i',
        'ĺ' | 'ļ' | 'ľ' | 'ł' => 'l',
        'ñ' | 'ń' | 'ņ' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ŏ' | 'ő' | 'ơ' | 'ọ'..='ợ' => 'o',
        'ŕ' | 'ř' => 'r',
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' | 'ß' => 's',
        'ţ' | 'ť' | 'ț' => 't',
        'ù'..='ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ư' | 'ụ'..='ự' => 'u',
        'ý' | 'ÿ' | 'ỳ'..='ỹ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        'й' => 'и',
        'ё' => 'е',
        'ά' => 'α',
        'έ' => 'ε',
        'ή' => 'η',
        'ί' => 'ι',
        'ό' => 'ο',
        'ύ' => 'υ',
        'ώ' => 'ω',
        'ς' => 'σ',
        // The letters and digits of East Asian fonts.
        '\u{ff01}'..='\u{ff5e}' => u32::from(letter)
            .checked_sub(0xfee0)
            .and_then(char::from_u32)
            .map_or(letter, |narrow| narrow.to_ascii_lowercase()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_means_what_its_row_says() {
        for (meaning, row) in WORDS {
            for word in row.split_whitespace() {
                assert_eq!(of_word(&plain(word)), Some(*meaning), "{word}");
            }
        }
        for (meaning, row) in STEMS {
            for stem in row.split_whitespace() {
                assert_eq!(of_word(&plain(&format!("{stem}ый"))), Some(*meaning), "{stem}");
            }
        }
    }
}
