//! Licences: what is linked in must be free to use in a program under Apache-2.0, without duties beyond naming it.

use std::collections::BTreeSet;

use serde_json::Value;

const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    // The certificates of Mozilla's list, as data.
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks every package that the lock file holds; returns how many.
pub(super) fn check(metadata: &Value, broken: &mut Vec<String>) -> usize {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut said = BTreeSet::new();
    for package in packages {
        let (name, version) = (&package["name"], &package["version"]);
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_permissive(licence) {
            let shown = if licence.is_empty() { "no licence in its manifest" } else { licence };
            said.insert(format!("{} {}: {shown} is not permissive", super::text(name), super::text(version)));
        }
    }
    broken.extend(said);
    packages.len()
}

/// Whether an SPDX expression leaves a way to use only permissive licences. `/` is the old word for OR.
fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, position: 0 };
    reader.any_of() == Some(true) && reader.position == words.len()
}

struct Reader<'a> {
    words: &'a [&'a str],
    position: usize,
}

impl Reader<'_> {
    fn take(&mut self, word: &str) -> bool {
        let is_next = self.words.get(self.position) == Some(&word);
        self.position += usize::from(is_next);
        is_next
    }

    /// OR binds less than AND. None when it cannot be read.
    fn any_of(&mut self) -> Option<bool> {
        let mut holds = self.all_of()?;
        while self.take("OR") {
            holds |= self.all_of()?;
        }
        Some(holds)
    }

    fn all_of(&mut self) -> Option<bool> {
        let mut holds = self.one()?;
        while self.take("AND") {
            holds &= self.one()?;
        }
        Some(holds)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let holds = self.any_of()?;
            return self.take(")").then_some(holds);
        }
        let mut name = (*self.words.get(self.position)?).to_owned();
        self.position += 1;
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.words.get(self.position)?);
            self.position += 1;
        }
        Some(PERMISSIVE.contains(&name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::is_permissive;

    #[test]
    fn expressions_are_understood() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "MIT OR GPL-3.0-only",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
            "(MIT OR GPL-2.0) AND ISC",
            "GPL-2.0 AND MIT OR Zlib",
        ] {
            assert!(is_permissive(good), "{good}");
        }
        for bad in
            ["", "GPL-3.0-only", "MIT AND AGPL-3.0", "(MIT OR ISC", "MIT OR", "Apache-2.0 WITH X", "MIT ISC"]
        {
            assert!(!is_permissive(bad), "{bad}");
        }
    }
}
