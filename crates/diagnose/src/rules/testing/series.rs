//! The notation of samples, that of `promtool test rules`: `0+1x29` is 30 samples from 0 in steps of 1, `5x3` is four times 5, `_x2`
//! is two that are missing, and a number is one sample.

/// Samples of one series at the most.
const SAMPLES_MAX: usize = 10_000;

/// The metric and the labels of `name{label="value",...}`.
pub(super) fn selector(text: &str) -> Result<(String, Vec<(String, String)>), String> {
    let expected = || format!("is `{text}`, where a series such as `up{{job=\"api\"}}` is expected");
    let Some((metric, rest)) = text.split_once('{') else {
        return if is_name(text) { Ok((text.to_owned(), Vec::new())) } else { Err(expected()) };
    };
    let mut rest = rest.trim_end().strip_suffix('}').ok_or_else(expected)?.trim();
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=').ok_or_else(expected)?;
        let quoted = behind.trim_start().strip_prefix('"').ok_or_else(expected)?;
        let (value, after) = unquoted(quoted).ok_or_else(expected)?;
        if !is_name(name.trim()) {
            return Err(expected());
        }
        labels.push((name.trim().to_owned(), value));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => after,
            None => return Err(expected()),
        };
    }
    if is_name(metric.trim()) { Ok((metric.trim().to_owned(), labels)) } else { Err(expected()) }
}

/// The value before the closing quote, and what is behind it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
    !text.is_empty() && text.bytes().all(fits) && !text.starts_with(|first: char| first.is_ascii_digit())
}

/// The samples in their order; `None` is one that is missing.
pub(super) fn samples(text: &str) -> Result<Vec<Option<f64>>, String> {
    let mut all = Vec::new();
    for word in text.split_whitespace() {
        let expanded = expand(word).ok_or_else(|| {
            format!("has `{word}`, where samples such as `0.5`, `5x10`, `0+2x10` or `_x3` are expected")
        })?;
        if all.len() + expanded.1 > SAMPLES_MAX {
            return Err(format!("has more than {SAMPLES_MAX} samples"));
        }
        let (first, count, step) = expanded;
        all.extend((0..count).map(|index| first.map(|first| first + step * index as f64)));
    }
    if all.iter().flatten().next().is_none() {
        return Err("has no sample".to_owned());
    }
    Ok(all)
}

/// First value, how many, and the step between them.
fn expand(word: &str) -> Option<(Option<f64>, usize, f64)> {
    let (shape, times) = match word.rsplit_once('x') {
        Some((shape, times)) => {
            (shape, Some(times.parse::<usize>().ok().filter(|times| *times <= SAMPLES_MAX)?))
        }
        None => (word, None),
    };
    if shape == "_" {
        return Some((None, times.unwrap_or(1), 0.0));
    }
    let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
    let count = times.map_or(1, |times| times + 1);
    if let Some(value) = number(shape) {
        return Some((Some(value), count, 0.0));
    }
    // The sign of the step is the last one that does not belong to a number, as in `-5-2e3`.
    let signs = shape.char_indices().skip(1).filter(|(_, sign)| matches!(sign, '+' | '-'));
    let split =
        signs.filter_map(|(at, _)| Some((number(shape.get(..at)?)?, number(shape.get(at..)?)?))).next()?;
    times.map(|_| (Some(split.0), count, split.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_expanded_as_promtool_does() {
        for (text, expected) in [
            ("1 2.5", vec![Some(1.0), Some(2.5)]),
            ("5x2", vec![Some(5.0); 3]),
            ("0+2x2 _ 1e3", vec![Some(0.0), Some(2.0), Some(4.0), None, Some(1000.0)]),
            ("-1-0.5x1 _x2", vec![Some(-1.0), Some(-1.5), None, None]),
            ("1e3-1e2x1", vec![Some(1000.0), Some(900.0)]),
        ] {
            assert_eq!(samples(text).unwrap(), expected, "{text}");
        }
        for wrong in ["", "_x3", "ax3", "1x", "1xx2", "1+2", "1x99999", "NaN", "inf"] {
            assert!(samples(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_series_has_a_name_and_labels() {
        let labels = vec![("a".to_owned(), "x \"}\n".to_owned()), ("b".to_owned(), String::new())];
        assert_eq!(selector(r#"up{a="x \"}\n", b=""}"#).unwrap(), ("up".to_owned(), labels));
        assert_eq!(selector("up").unwrap().0, "up");
        for wrong in ["", "up{", "up{a}", "up{a=b}", "up{a=\"b}", "up{a=\"b\"c=\"d\"}", "1up", "a b"] {
            assert!(selector(wrong).is_err(), "{wrong}");
        }
    }
}
