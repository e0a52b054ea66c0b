"""Names that prompts, results or DSPy's classes use: a category of such a name gets another."""

from __future__ import annotations

# What is beside the quotes in prompts, predictions, demonstrations and the table of metrics.
_OWN = (
    "all asked augmented base case config demos difference empty_agreement errors findings "
    "found improved_parts irregular keep_ungrounded lm negation_recall new_signature "
    "nonempty_f1 over_extraction polarity_errors reasoning report score score_baseline self "
    "signature told trace ungrounded"
)
# Members of DSPy's signatures, predictions and modules, and of this project's parts and programs,
# whose attributes categories become. A test compares this with the classes as installed.
_MEMBERS = (
    "acall answers append append_instructions ask batch build callbacks chooses_sections "
    "completions construct copy deepcopy delete demonstration dict dump_state equals few_shot "
    "fields forward framed from_completions from_orm get get_lm get_lm_usage history input_fields "
    "inputs insert inspect_history instruction instructions items json keys kinds labels load "
    "load_state map_named_predictors max_tokens messages model_computed_fields model_config "
    "model_construct model_copy model_dump model_dump_json model_extra model_fields "
    "model_fields_set model_json_schema model_parametrized_name model_post_init model_rebuild "
    "model_validate model_validate_json model_validate_strings mro named_parameters "
    "named_predictors named_sub_modules names output_fields parameters parse_file parse_obj "
    "parse_raw parts pieces predict predictors prepend register reset_copy review save schema "
    "schema_json set_lm set_lm_usage support text_for toDict twice units update_forward_refs "
    "validate values with_demonstrations with_inputs with_instruction with_instructions "
    "with_parts with_support with_units with_updated_fields without "
    "learns looks nearest shown silence silent taught use"
)
RESERVED = frozenset(f"{_OWN} {_MEMBERS}".split())


def safe(name: str) -> str:
    """Return the key of the category of a name: the name itself, or with an underscore after it.

    So any identifier can name a category, and whatever is read (gold, predictions, tables) may use
    either form; what is written has the key.
    """
    return f"{name}_" if name in RESERVED else name
