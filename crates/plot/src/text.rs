//! Text in a plot: characters that XML allows, and its approximate width.

/// Replaces characters that XML forbids, even escaped, and turns tabs and line ends into spaces.
pub(crate) fn clean(text: &str) -> String {
    let replace = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        c => c,
    };
    text.trim().chars().map(replace).collect()
}

/// Returns the approximate width of a text in pixels. A viewer chooses its own sans-serif font, so this assumes a wide
/// one.
pub(crate) fn width(text: &str, font_size: f64) -> f64 {
    text.chars().map(advance).sum::<f64>() * font_size
}

fn advance(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' | '!' => 0.34,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '/' | '-' => 0.42,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.98,
        'A'..='Z' | '&' => 0.74,
        '<' | '>' | '+' | '=' | '~' => 0.84,
        c if c.is_ascii() => 0.64,
        // Scripts with full-width characters, and emoji.
        '\u{1100}'.. => 1.05,
        _ => 0.7,
    }
}

/// Returns clean text, truncated to a width with an ellipsis if it is too long.
pub(crate) fn fit(text: &str, font_size: f64, max_width: f64) -> String {
    // No text that fits has more characters than this many of the narrowest.
    let longest = (max_width / font_size / 0.3).clamp(0.0, 1e6) as usize + 1;
    let mut fitted: String = clean(text).chars().take(longest).collect();
    let is_whole = fitted.chars().count() < longest;
    if is_whole && width(&fitted, font_size) <= max_width {
        return fitted;
    }
    let ellipsis = width("…", font_size);
    while width(&fitted, font_size) + ellipsis > max_width && fitted.pop().is_some() {}
    fitted.truncate(fitted.trim_end().len());
    fitted.push('…');
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut() {
        assert_eq!(fit(" loss\n", 12.0, 100.0), "loss");
        let cut = fit(&"very long ".repeat(1000), 12.0, 100.0);
        assert!(cut.ends_with('…') && width(&cut, 12.0) <= 100.0, "{cut}");
        assert!(width(&cut, 12.0) > 80.0, "{cut}");
        assert_eq!(fit("loss", 12.0, 0.0), "…");
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(clean("a\tb\u{1}c\u{ffff}"), "a b\u{fffd}c\u{fffd}");
    }
}
