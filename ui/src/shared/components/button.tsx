import type { ButtonHTMLAttributes } from "react";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: "primary" | "danger" | "quiet";
}

/** A button; the one thing on a page that people most likely want is `primary`. */
export function Button({ look, className, type = "button", ...rest }: Props) {
  return <button type={type} className={className ? `button ${className}` : "button"} data-look={look} {...rest} />;
}
